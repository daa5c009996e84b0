//! Do 100 WebSockets live through 1,000 whole configurations, and does the memory stay where it was?
//!
//! Every swap replaces everything by something of another name: both clusters with their endpoints, a second listener
//! with its routes, and a secret; the routes of the first listener, over which the sockets came, move from the cluster
//! that goes to the one that comes. Each swap waits for the one before it, and for nothing else. The sockets speak all
//! the time. None may close, although the cluster through which it was opened has long gone.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::certificates::{Authority, Leaf};
use harness::client::{RawClient, timed};
use harness::control_plane::{
    CLUSTER, ControlPlane, ENDPOINT, Kind, LISTENER, ROUTE, Recorded, ResourceReader, SECRET, World,
};
use harness::http1;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Duration;

use crate::{WITHIN, ads, resident_kib};

const SWAPS: u32 = 1000;
const SOCKETS: usize = 100;
/// What may be added to the resident memory between the first quarter of the swaps and their end.
const GROWTH_KIB: u64 = 4 * 1024;

const ASK: &[u8] = b"GET /socket HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An application that agrees to every WebSocket and then says again what it hears.
struct Echo {
    address: SocketAddr,
    task: AbortHandle,
}

impl Echo {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sockets.spawn(Self::serve(BufReader::new(stream)));
            }
        });
        Ok(Self {
            address,
            task: task.abort_handle(),
        })
    }

    async fn serve(mut stream: BufReader<TcpStream>) -> Result<()> {
        http1::read_head(&mut stream).await?.context("closed")?;
        stream.get_ref().set_nodelay(true)?;
        stream.write_all(AGREE).await?;
        let mut buffer = [0; 256];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(stream.shutdown().await?);
            }
            stream.write_all(&buffer[..count]).await?;
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scene {
    reader: ResourceReader,
    control_plane: ControlPlane,
    echo: Echo,
    leaves: [Leaf; 2],
    sockets: Port,
    other: Port,
}

impl Scene {
    async fn new() -> Result<Self> {
        let authority = Authority::new("swap root")?;
        let leaves = [
            authority.spiffe("spiffe://test.local/one")?,
            authority.spiffe("spiffe://test.local/two")?,
        ];
        let scene = Self {
            reader: ResourceReader::new()?,
            control_plane: ControlPlane::start().await?,
            echo: Echo::start().await?,
            leaves,
            sockets: Port::reserve()?,
            other: Port::reserve()?,
        };
        let rds = json!({"rds": {"route_config_name": "sockets", "config_source": ads()},
            "upgrade_configs": [{"upgrade_type": "websocket"}]});
        let manager = bootstrap::http_connection_manager(&rds);
        let listener = bootstrap::listener("sockets", scene.sockets.address(), manager);
        scene.control_plane.put([scene.reader.json(LISTENER, &listener)?]);
        Ok(scene)
    }

    /// Everything with the given number in place of everything with the number before.
    fn swap(&self, number: u32) -> Result<()> {
        let [first, second, routes, secret, other] =
            ["first", "second", "routes", "secret", "other"].map(|word| format!("{word}-{number}"));
        let leaf = &self.leaves[(number % 2) as usize];
        let rds = json!({"rds": {"route_config_name": routes, "config_source": ads()}});
        let mut listener = bootstrap::listener(
            &other,
            self.other.address(),
            bootstrap::http_connection_manager(&rds),
        );
        listener["filter_chains"][0]["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": secret, "sds_config": ads()}]}}});
        let mut resources = vec![
            self.reader.json(LISTENER, &listener)?,
            self.reader
                .json(ROUTE, &bootstrap::route_everything("sockets", &first))?,
            self.reader
                .json(ROUTE, &bootstrap::route_everything(&routes, &second))?,
            self.reader.json(
                SECRET,
                &json!({"name": secret, "tls_certificate": {
                "certificate_chain": {"inline_string": leaf.certificate_pem},
                "private_key": {"inline_string": leaf.key_pem}}}),
            )?,
        ];
        for cluster in [&first, &second] {
            let eds = json!({"name": cluster, "type": "EDS", "connect_timeout": "2s",
                "eds_cluster_config": {"eds_config": ads()}});
            resources.push(self.reader.json(CLUSTER, &eds)?);
            let assignment = bootstrap::load_assignment(cluster, &[self.echo.address]);
            resources.push(self.reader.json(ENDPOINT, &assignment)?);
        }
        self.control_plane.push(|world| {
            if let Some(before) = number.checked_sub(1) {
                remove(world, before);
            }
            resources.into_iter().for_each(|resource| world.put(resource));
        });
        Ok(())
    }

    /// Waits until the proxy has asked for what the pushed clusters and listeners name, and acknowledged it.
    async fn swapped(&self, number: u32) -> Result<()> {
        let wanted = [
            (ROUTE, format!("routes-{number}")),
            (SECRET, format!("secret-{number}")),
            (ENDPOINT, format!("second-{number}")),
        ];
        let acked = |requests: &[Recorded]| {
            wanted.iter().all(|(type_url, name)| {
                let mut requests = requests.iter().filter(|seen| seen.type_url == *type_url);
                requests.any(|seen| seen.names.contains(name)) && requests.any(|seen| seen.kind == Kind::Ack)
            })
        };
        self.control_plane.wait_until(WITHIN, acked).await?;
        let requests = self.control_plane.requests();
        let refused = requests.iter().find(|seen| seen.kind == Kind::Nack);
        ensure!(refused.is_none(), "refused: {refused:?}");
        self.control_plane.forget_requests();
        Ok(())
    }
}

fn remove(world: &mut World, number: u32) {
    for (type_url, words) in [
        (LISTENER, ["other", ""]),
        (ROUTE, ["routes", ""]),
        (SECRET, ["secret", ""]),
        (CLUSTER, ["first", "second"]),
        (ENDPOINT, ["first", "second"]),
    ] {
        for word in words {
            world.remove(type_url, &format!("{word}-{number}"));
        }
    }
}

/// Says a word and waits for its echo, again and again until it is told to finish. How many words it said.
async fn speak(mut socket: RawClient, stop: watch::Receiver<bool>) -> Result<u32> {
    let mut words = 0;
    let mut heard = [0; 4];
    while !*stop.borrow() {
        socket.send(b"word").await?;
        timed(async { Ok(socket.stream().read_exact(&mut heard).await?) }).await?;
        ensure!(&heard == b"word", "heard {heard:?}");
        words += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(words)
}

async fn open_sockets(scene: &Scene, stop: &watch::Sender<bool>) -> Result<JoinSet<Result<u32>>> {
    let mut sockets = JoinSet::new();
    for _ in 0..SOCKETS {
        let mut socket = RawClient::connect(scene.sockets.address()).await?;
        socket.send(ASK).await?;
        let agreed = socket.read_head().await?.context("closed")?;
        ensure!(agreed.status() == 101, "{agreed:?}");
        sockets.spawn(speak(socket, stop.subscribe()));
    }
    Ok(sockets)
}

async fn swaps(proxy: Proxy, variant: AdsVariant) -> Result<()> {
    let scene = Scene::new().await?;
    scene.swap(0)?;
    let admin = Port::reserve()?;
    let text = bootstrap::ads(admin.address(), scene.control_plane.address(), variant).to_string();
    let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
    scene.swapped(0).await?;
    let stop = watch::Sender::new(false);
    let mut sockets = open_sockets(&scene, &stop).await?;

    let (begun, mut early) = (Instant::now(), 0);
    for number in 1..=SWAPS {
        scene.swap(number)?;
        scene
            .swapped(number)
            .await
            .with_context(|| format!("swap {number}"))?;
        if number == SWAPS / 4 {
            early = resident_kib(process.pid())?;
        }
    }
    let (took, late) = (begun.elapsed(), resident_kib(process.pid())?);
    stop.send_replace(true);
    let mut words = 0;
    while let Some(ended) = sockets.join_next().await {
        words += ended?.context("a WebSocket was closed")?;
    }
    if proxy == Proxy::Remora {
        let worlds = process.metric("remora_config_generation", "").await?;
        ensure!(
            worlds >= Some(f64::from(SWAPS)),
            "{SWAPS} swaps became {worlds:?} worlds"
        );
    }
    let rate = f64::from(SWAPS) / took.as_secs_f64();
    writeln!(
        std::io::stderr(),
        "{} {variant:?}: {rate:.0} swaps per second, {words} words, {early} to {late} KiB",
        proxy.name()
    )?;
    ensure!(
        late <= early + GROWTH_KIB,
        "memory grew from {early} to {late} KiB"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_web_sockets_live_through_a_thousand_swaps() -> Result<()> {
    for proxy in Proxy::under_test("configuration swaps")? {
        for variant in [AdsVariant::Delta, AdsVariant::Sotw] {
            swaps(proxy, variant)
                .await
                .with_context(|| format!("{} {variant:?}", proxy.name()))?;
        }
    }
    Ok(())
}
