//! The stages of a job as the runner marks them, and which of them can be the one that failed.

use trace::Line;

/// Sections of the runner in which a job can fail.
///
/// gitlab-runner `common/build.go`: `executeStage` and the order in `executeScript`. `archive_cache` is not
/// among them: what goes wrong with a cache fails no job.
const WORK: [&str; 13] = [
    "resolve_secrets",
    "prepare_executor",
    "prepare_script",
    "get_sources",
    "clear_worktree",
    "restore_cache",
    "download_artifacts",
    "build_script",
    "step_script",
    "step_release",
    "step_run",
    "upload_artifacts",
    "upload_artifacts_on_success",
];

/// Sections that come after the failure, if there was one.
const AFTERMATH: [&str; 5] = [
    "after_script",
    "archive_cache",
    "archive_cache_on_failure",
    "upload_artifacts_on_failure",
    "cleanup_file_variables",
];

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage<'a> {
    /// In a stage in which a job can fail.
    Work(&'a str),
    /// In what follows the failure.
    Aftermath,
    /// Between two stages, before the first one or after the last, or in a log that has none.
    Between,
}

/// Whether it is a stage in which a job can fail.
pub(crate) fn is_known(name: &str) -> bool {
    WORK.contains(&name)
}

/// The stage of a line: the first one opened of the runner's, for sections that the job opens within it may have
/// such names too.
pub(crate) fn of<'a>(line: &Line<'a>) -> Stage<'a> {
    let mut open = line.section_path.iter().map(trace::OpenSection::name);
    open.find_map(by_name).unwrap_or(Stage::Between)
}

fn by_name(name: &str) -> Option<Stage<'_>> {
    if AFTERMATH.contains(&name) {
        Some(Stage::Aftermath)
    } else if WORK.contains(&name) {
        Some(Stage::Work(name))
    } else {
        None
    }
}
