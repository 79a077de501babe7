//! The harness itself: faults that do not happen would prove nothing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::engine::{Engine, Need};
use crate::proxy::{Fault, Hold, Proxy, Side, Way};
use crate::tests::{ALL, Test};
use crate::world::World;

/// What comes at all comes within this.
const SOON: Duration = Duration::from_secs(5);
/// What does not come within this does not come.
const NEVER: Duration = Duration::from_millis(150);

/// What happens by chance happens in one of so many connections.
const CUTS: usize = 10;

/// Both ends of a connection through a proxy.
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

/// A proxy before a server that does nothing of its own.
struct Stage {
    listener: TcpListener,
    proxy: Proxy,
}

impl Stage {
    async fn new(world: &World) -> Result<Self> {
        // At the end of every test its queues are looked at.
        world.initmq().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let proxy = world.proxy("client–server", port).await?;
        Ok(Self { listener, proxy })
    }

    async fn connect(&self) -> Result<Ends> {
        let client = self.client().await?;
        let (server, _) = timeout(SOON, self.listener.accept()).await??;
        Ok(Ends { client, server })
    }

    async fn client(&self) -> Result<TcpStream> {
        Ok(TcpStream::connect(("127.0.0.1", self.proxy.port())).await?)
    }
}

pub(crate) async fn a_proxy_does_to_connections_what_it_is_told(world: &World) -> Result<()> {
    let stage = Stage::new(world).await?;
    cuts_and_resets(&stage).await.context("cuts and resets")?;
    stalls(&stage).await.context("stalls")?;
    half_opens(&stage).await.context("half-opens")?;
    slows(&stage).await.context("slows")?;
    counts(&stage).await.context("counts")
}

pub(crate) async fn a_proxy_holds_a_connection_in_its_moment(world: &World) -> Result<()> {
    let stage = Stage::new(world).await?;
    let mut ends = stage.connect().await?;
    stage.proxy.hold(Hold::Request("-jobs/_create/"));
    says(&mut ends.client, &mut ends.server, b"PUT /lines-jo").await?;
    ensure!(stage.proxy.held() == 0, "held before its moment");
    // In two pieces, as it may come.
    ends.client.write_all(b"ps PUT /x-jobs/_create/1").await?;
    is_silent(&mut ends.server).await?;
    ensure!(stage.proxy.held() == 1, "not held");
    says(&mut ends.server, &mut ends.client, b"the other way").await?;
    stage.proxy.release();
    hears(&mut ends.server, b"ps PUT /x-jobs/_create/1").await?;

    stage.proxy.hold(Hold::Answer("/_bulk?"));
    says(&mut ends.client, &mut ends.server, b"POST /x/_bu").await?;
    says(&mut ends.client, &mut ends.server, b"lk?a=b").await?;
    ensure!(stage.proxy.held() == 1, "not held");
    ends.server.write_all(b"200").await?;
    is_silent(&mut ends.client).await?;
    says(&mut ends.client, &mut ends.server, b"and more").await?;
    // Another connection has its own moment.
    let mut other = stage.connect().await?;
    says(&mut other.server, &mut other.client, b"passes").await?;
    stage.proxy.release();
    hears(&mut ends.client, b"200").await?;
    says(&mut ends.server, &mut ends.client, b"passes").await
}

async fn cuts_and_resets(stage: &Stage) -> Result<()> {
    for (fault, is_reset) in [(Fault::Cut, false), (Fault::Reset, true)] {
        let mut ends = stage.connect().await?;
        says(&mut ends.client, &mut ends.server, b"hello").await?;
        says(&mut ends.server, &mut ends.client, b"hello").await?;
        stage.proxy.apply(fault);
        for end in [&mut ends.client, &mut ends.server] {
            ensure!(ended(end).await? == is_reset, "{fault:?} did otherwise");
        }
        // A reset may come before the client's system has told it that it is connected.
        if let Ok(mut newcomer) = stage.client().await {
            ended(&mut newcomer).await?;
        }
        stage.proxy.mend();
        let mut ends = stage.connect().await?;
        says(&mut ends.client, &mut ends.server, b"hello").await?;
        // Without a fault an end is passed on, and leaves the other way open.
        ends.client.shutdown().await?;
        ensure!(!ended(&mut ends.server).await?, "an end became a reset");
        says(&mut ends.server, &mut ends.client, b"goodbye").await?;
    }
    Ok(())
}

async fn stalls(stage: &Stage) -> Result<()> {
    let mut ends = stage.connect().await?;
    stage.proxy.apply(Fault::Stall(Way::ToServer));
    says(&mut ends.server, &mut ends.client, b"passes").await?;
    ends.client.write_all(b"later").await?;
    is_silent(&mut ends.server).await?;
    stage.proxy.apply(Fault::Stall(Way::ToClient));
    hears(&mut ends.server, b"later").await?;
    ends.server.write_all(b"later").await?;
    is_silent(&mut ends.client).await?;
    stage.proxy.apply(Fault::Stall(Way::Both));
    ends.client.write_all(b"too").await?;
    is_silent(&mut ends.server).await?;
    is_silent(&mut ends.client).await?;
    stage.proxy.mend();
    hears(&mut ends.client, b"later").await?;
    hears(&mut ends.server, b"too").await?;
    // What is kept back when the connection is cut never passes.
    for _ in 0..CUTS {
        let mut ends = stage.connect().await?;
        stage.proxy.apply(Fault::Stall(Way::Both));
        ends.client.write_all(b"never").await?;
        is_silent(&mut ends.server).await?;
        stage.proxy.cut();
        let mut heard = Vec::new();
        timeout(SOON, ends.server.read_to_end(&mut heard)).await??;
        ensure!(heard.is_empty(), "bytes of a stalled connection passed");
        stage.proxy.mend();
    }
    Ok(())
}

async fn half_opens(stage: &Stage) -> Result<()> {
    for closed in [Side::Client, Side::Server] {
        let Ends { client, server } = stage.connect().await?;
        stage.proxy.apply(Fault::HalfOpen { closed });
        let (mut closed_end, mut open_end) = match closed {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        ended(&mut closed_end).await?;
        stage.proxy.mend();
        // It is taken from the one who talks, and comes to nobody.
        open_end.write_all(&vec![b'x'; 100_000]).await?;
        is_silent(&mut open_end).await?;
        stage.proxy.cut();
        ended(&mut open_end).await?;
        stage.proxy.mend();
    }
    Ok(())
}

async fn slows(stage: &Stage) -> Result<()> {
    const RATE: usize = 10_000;
    let mut ends = stage.connect().await?;
    stage.proxy.apply(Fault::Slow(RATE));
    let begin = Instant::now();
    says(&mut ends.client, &mut ends.server, &[b'x'; RATE / 2]).await?;
    let took = begin.elapsed();
    stage.proxy.mend();
    let is_right = Duration::from_millis(350) < took && took < SOON;
    ensure!(is_right, "half of a second's bytes took {took:?}");
    Ok(())
}

async fn counts(stage: &Stage) -> Result<()> {
    for (fault, is_reset) in [(Fault::CutAfter(10), false), (Fault::ResetAfter(10), true)] {
        let mut ends = stage.connect().await?;
        says(&mut ends.client, &mut ends.server, b"these do not count").await?;
        stage.proxy.apply(fault);
        says(&mut ends.client, &mut ends.server, b"12345").await?;
        says(&mut ends.server, &mut ends.client, b"6789").await?;
        ends.client.write_all(b"abc").await?;
        let mut rest = Vec::new();
        let read = timeout(SOON, ends.server.read_to_end(&mut rest)).await;
        let was_reset = read.context("the connection does not end")?.is_err();
        ensure!(was_reset == is_reset, "{fault:?} did otherwise");
        ensure!(rest.len() <= 1, "{} bytes too many passed", rest.len());
        stage.proxy.mend();
    }
    Ok(())
}

/// What one end says the other one hears.
async fn says(from: &mut TcpStream, to: &mut TcpStream, words: &[u8]) -> Result<()> {
    from.write_all(words).await?;
    hears(to, words).await
}

async fn hears(end: &mut TcpStream, words: &[u8]) -> Result<()> {
    let mut heard = vec![0; words.len()];
    let read = timeout(SOON, end.read_exact(&mut heard)).await;
    read.context("nothing is heard")??;
    ensure!(heard == words, "other words are heard");
    Ok(())
}

async fn is_silent(end: &mut TcpStream) -> Result<()> {
    match timeout(NEVER, end.read_u8()).await {
        Err(_) => Ok(()),
        Ok(heard) => bail!("it is not silent: {heard:?}"),
    }
}

/// Waits for the end of a connection that has nothing more to say, and says whether it was a reset.
async fn ended(end: &mut TcpStream) -> Result<bool> {
    let read = timeout(SOON, end.read(&mut [0; 1])).await;
    match read.context("the connection does not end")? {
        Ok(0) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        other => bail!("no end but {other:?}"),
    }
}

/// Nobody is to believe that a test is played on OpenSearch when it is not.
pub(crate) async fn what_opensearch_leaves_out_is_in_its_document(world: &World) -> Result<()> {
    world.initmq().await?;
    let document = include_str!("../../../docs/opensearch.md");
    let listed: BTreeSet<&str> = document
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split_once('`'))
        .filter_map(|(name, _)| name.contains("::").then_some(name))
        .collect();
    let lacks = |test: &&Test| {
        let lacks = |need: &Need| Engine::OpenSearch.lacks(*need).is_some();
        test.needs.iter().any(lacks)
    };
    let left_out: BTreeSet<&str> = ALL.iter().filter(lacks).map(|test| test.name).collect();
    ensure!(!left_out.is_empty(), "nothing is left out");
    ensure!(
        listed == left_out,
        "{listed:?} are listed, {left_out:?} left out"
    );
    Ok(())
}
