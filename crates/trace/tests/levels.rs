//! One row for each thing that a line can say of itself, and for what only sounds like it.

mod support;

use support::read;

fn level(line: &str) -> Option<&'static str> {
    let read = read(line.as_bytes());
    assert_eq!(read.lines.len(), 1, "{line:?}");
    read.lines[0].level
}

#[track_caller]
fn all(expected: Option<&'static str>, lines: &[&str]) {
    for line in lines {
        assert_eq!(level(line), expected, "{line:?}");
    }
}

#[test]
fn errors() {
    all(
        Some("error"),
        &[
            // The runner
            "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m",
            "\x1b[31;1mERROR: Job failed (system failure): no runner\x1b[0;m",
            "ERROR: Uploading artifacts as \"archive\" to coordinator... 413",
            // Compilers
            "\x1b[1m\x1b[91merror[E0308]\x1b[0m\x1b[1m: mismatched types\x1b[0m",
            "error[E0308]: mismatched types",
            "error: could not compile `demo` (bin \"demo\") due to 3 previous errors",
            "\x1b[01m\x1b[Kbroken.c:10:26:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kundeclared",
            "broken.c:1:10: fatal error: nope.h: No such file or directory",
            "fatal error: too many errors emitted",
            "src/app.ts(1,7): error TS2304: Cannot find name 'x'.",
            "app.py:3: error: Incompatible types in assignment  [assignment]",
            "ld: error: undefined symbol: main",
            "make[1]: *** [Makefile:14: nested] Error 1",
            "make: *** No rule to make target 'x'.  Stop.",
            "[ERR] no connection",
            "SEVERE: Servlet threw an exception",
            "[FAIL] 3 of 5 checks",
            "BUILD FAILURE",
            "Bus error (core dumped)",
            "Bus error",
            "Segmentation fault",
            "ERR_PNPM_NO_LOCKFILE  Cannot install with frozen-lockfile",
            "::error file=app.js,line=1::Missing semicolon",
            "::error::Missing semicolon",
            // Tests
            "FAILED tests/test_math.py::test_diff - AssertionError",
            "tests/test_math.py::test_diff \x1b[31mFAILED\x1b[0m\x1b[31m         [ 54%]\x1b[0m",
            "\x1b[1m\x1b[31mE       AssertionError: assert 1 == 2\x1b[0m",
            "\x1b[1m\x1b[31mE       assert 4 == 5\x1b[0m",
            "\x1b[31m==== \x1b[31m\x1b[1m3 failed\x1b[0m, \x1b[32m5 passed\x1b[0m",
            "tests/test_math.py:11: AssertionError",
            "test tests::adds ... FAILED",
            "> Task :test FAILED",
            "FAIL src/app.test.js",
            "FAIL",
            "FAIL\texample.com/demo\t0.207s",
            "    --- FAIL: TestTable/case_2 (0.00s)",
            // Languages
            "Traceback (most recent call last):",
            "ValueError: invalid literal for int()",
            "subprocess.CalledProcessError: Command died",
            "panic: runtime error: index out of range",
            "thread 'main' panicked at src/main.rs:2:5:",
            "thread 'main' (4711) panicked at src/main.rs:2:5:",
            "Exception in thread \"main\" java.lang.NullPointerException",
            "java.lang.IllegalStateException: no",
            "Caused by: java.io.IOException: disk full",
            "Error: Cannot find module 'x'",
            // Logs
            "[ERROR] Failed to execute goal",
            "[12:00:01] [error] it broke",
            "2026-01-21 09:47:26,583 ERROR [main] com.acme.App - no",
            "2026-01-21T09:47:26Z FATAL it broke",
            "time=\"2026-01-21\" level=error msg=\"no\"",
            "{\"level\":\"error\",\"msg\":\"no\"}",
            "{\"severity\": \"CRITICAL\"}",
            "ERROR:root:no",
            // Tools
            "npm ERR! code ELIFECYCLE",
            "npm error code ELIFECYCLE",
            "E: Unable to locate package nope",
            "fatal: --unshallow on a complete repository does not make sense",
            "bash: line 167: nope: command not found",
            "./run.sh: line 1:  1234 Segmentation fault      (core dumped) ./a.out (core dumped)",
            "FAILURE: Build failed with an exception.",
            "BUILD FAILED in 3s",
            "##[error]Process completed with exit code 1.",
        ],
    );
}

#[test]
fn warnings() {
    all(
        Some("warning"),
        &[
            "\x1b[0;33mWARNING: script canceled externally (UI, API)\x1b[0;m",
            "WARNING: missing-*.txt: no matching files.",
            "::warning file=app.js,line=1::Unused variable",
            "::warning::Unused variable",
            "\x1b[1m\x1b[33mwarning\x1b[0m\x1b[1m: unused import: `x`\x1b[0m",
            "\x1b[01m\x1b[Kmod1.c:2:47:\x1b[m\x1b[K \x1b[01;35m\x1b[Kwarning: \x1b[m\x1b[Kformat",
            "warning: `demo` (bin \"demo\") generated 1 warning",
            "Program.cs(1,1): warning CS0168: declared but never used",
            "/builds/a.py:34: DeprecationWarning: this is deprecated",
            "DeprecationWarning: use of x",
            "\x1b[33mWARNING \x1b[0m demo:test_math.py:35 a log line",
            "[WARN] deprecated",
            "[WARNING] deprecated",
            "npm WARN deprecated x@1",
            "npm warn deprecated x@1",
            "W: Some index files failed to download.",
            "WARN  Issues with peer dependencies found",
            "2026-01-21 09:47:26 WARN pool exhausted",
            "level=warning msg=slow",
            "##[warning]deprecated",
            "Warning: Permanently added 'host' to the list of known hosts.",
        ],
    );
}

#[test]
fn information_and_debugging() {
    all(
        Some("info"),
        &[
            "INFO: starting",
            "[INFO] BUILD SUCCESS",
            "notice: a new release is out",
            "{\"level\":\"information\",\"msg\":\"ok\"}",
            "2026-01-21 09:47:26 INFO started",
            "level=info msg=ok",
        ],
    );
    all(
        Some("debug"),
        &[
            "DEBUG: x=1",
            "[debug] x",
            "level=debug msg=x",
            "level=trace msg=x",
            "[verbose] x",
            "##[debug]x",
            "::debug::x",
        ],
    );
}

#[test]
fn what_only_sounds_like_it() {
    all(
        None,
        &[
            // What the runner echoes
            "\x1b[32;1m$ echo \"error: no\"\x1b[0;m",
            "$ grep -r ERROR: .",
            // Names and counts
            "Compiling error-chain v0.12.4",
            "   Compiling thiserror v2.0.1",
            "src/error.rs",
            "src/error.rs:10:5",
            "test error::tests::display ... ok",
            "error::tests",
            "0 errors, 0 warnings",
            "Errors: 0",
            "Error: 0",
            "Failed: 0",
            "failed: 3",
            "Warning: none",
            "3 passed, 0 FAILED",
            "test result: ok. 12 passed; 0 failed; 0 ignored",
            "ERROR_CODE=0",
            "FAIL_FAST=1",
            "FAILED=0",
            "FF_SECRET_RESOLVING_FAILS_IF_MISSING=true",
            "errors=0 level=9",
            "log_level=error_only",
            "RUST_LOG_LEVEL=debugger",
            "-Werror -Wall",
            "errors[0]: none",
            // Running text
            "This error is expected",
            "No error occurred",
            "about to fail",
            "in after_script, status is failed",
            "Handling of errors: see below",
            "For more information about an error, try `rustc --explain E0308`.",
            "Everything is fine, no WARNING: here",
            "warnings.warn(\"this is deprecated\", DeprecationWarning)",
            "a[error] = 1",
            "Failed to retrieve available kernel versions.",
            "INFORMATION is power",
            "make: Entering directory '/builds'",
            // Colours that say nothing
            "\x1b[32merror\x1b[0m handling works",
            "\x1b[31mred\x1b[0m error",
            "\x1b[32mPASSED\x1b[0m\x1b[31m   [ 90%]\x1b[0m",
            "\x1b[31m0 failed\x1b[0m",
            "\x1b[31merror_count\x1b[0m 1",
            "\x1b[1m\x1b[31mE         -     'name': 'cafe',\x1b[0m",
            "E   assert written by hand",
        ],
    );
}
