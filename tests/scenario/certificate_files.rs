//! Does the proxy take up certificates that are replaced on disk?
//!
//! A secret from SDS names files; they are swapped the way a kubelet does it. New handshakes show the new certificate,
//! connections that are there live on, and files of no use leave the last good identity in place until better ones
//! come.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::certificates::{Authority, CertificateFolder, Leaf, LeafRequest};
use harness::client::{self, RawClient};
use harness::control_plane::{CLUSTER, ControlPlane, LISTENER, ResourceReader, SECRET};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::tls;
use harness::upstream::Upstream;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: server.test\r\n\r\n";

struct Scene {
    authority: Authority,
    folder: CertificateFolder,
    port: Port,
    process: ProxyProcess,
    _control_plane: ControlPlane,
    _upstream: Upstream,
}

/// How the secret names its files.
#[derive(Clone, Copy)]
enum Watched {
    /// `watched_directory` is where the link is swapped.
    Directory,
    /// The files lie beside each other and are renamed over.
    Beside,
}

fn leaf(authority: &Authority) -> Result<Leaf> {
    authority.leaf(&LeafRequest {
        dns_names: vec!["server.test".to_owned()],
        ..LeafRequest::default()
    })
}

fn listener(port: &Port) -> Value {
    let manager = bootstrap::http_connection_manager(
        &json!({"route_config": bootstrap::route_everything("routes", "up")}),
    );
    let mut listener = bootstrap::listener("ingress", port.address(), manager);
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [
                {"name": "identity", "sds_config": {"ads": {}, "resource_api_version": "V3"}}]},
        }
    });
    listener
}

fn secret(folder: &CertificateFolder, watched: Watched) -> Value {
    let mut certificate = match watched {
        Watched::Directory => json!({
            "certificate_chain": {"filename": folder.certificate()}, "private_key": {"filename": folder.key()},
        }),
        Watched::Beside => json!({
            "certificate_chain": {"filename": folder.path().join("cert.pem")},
            "private_key": {"filename": folder.path().join("key.pem")},
        }),
    };
    if matches!(watched, Watched::Directory) {
        certificate["watched_directory"] = json!({"path": folder.path()});
    }
    json!({"name": "identity", "tls_certificate": certificate})
}

/// Puts a leaf where [`Watched::Beside`] reads it: the certificate first, so that for a moment it has another's key.
fn replace_beside(folder: &CertificateFolder, leaf: &Leaf) -> Result<()> {
    for (name, content) in [("cert.pem", &leaf.certificate_pem), ("key.pem", &leaf.key_pem)] {
        let staged = folder.path().join("staged");
        std::fs::write(&staged, content)?;
        std::fs::rename(&staged, folder.path().join(name))?;
    }
    Ok(())
}

impl Scene {
    async fn start(proxy: Proxy, watched: Watched) -> Result<(Self, Leaf)> {
        let authority = Authority::new("test root")?;
        let first = leaf(&authority)?;
        let folder = CertificateFolder::new(authority.pem(), &first)?;
        replace_beside(&folder, &first)?;
        let upstream = Upstream::start("up").await?;
        let (reader, control_plane) = (ResourceReader::new()?, ControlPlane::start().await?);
        let (port, admin) = (Port::reserve()?, Port::reserve()?);
        control_plane.put([
            reader.json(CLUSTER, &bootstrap::cluster("up", &[upstream.address()]))?,
            reader.json(LISTENER, &listener(&port))?,
            reader.json(SECRET, &secret(&folder, watched))?,
        ]);
        let text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Sotw).to_string();
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        control_plane.wait_ack(SECRET).await?;
        let scene = Self {
            authority,
            folder,
            port,
            process,
            _control_plane: control_plane,
            _upstream: upstream,
        };
        Ok((scene, first))
    }

    /// The certificate of a new handshake, and the connection.
    async fn handshake(&self) -> Result<(CertificateDer<'static>, RawClient<TlsStream<TcpStream>>)> {
        let config = tls::client_config(&self.authority, None, &["http/1.1"])?;
        let stream = TcpStream::connect(self.address()).await?;
        let stream = client::timed(tls::connect(config, "server.test", stream)).await?;
        let leaf = tls::peer_leaf(stream.get_ref().1)?;
        Ok((leaf, RawClient::over(stream)))
    }

    /// New handshakes until one shows `leaf`.
    async fn wait_for(&self, leaf: &Leaf) -> Result<()> {
        let shows = async {
            while self.handshake().await?.0 != leaf.der {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        client::timed(shows)
            .await
            .with_context(|| format!("the new certificate never came\n{}", self.process.log()))
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

async fn rotates(proxy: Proxy) -> Result<()> {
    let (scene, first) = Scene::start(proxy, Watched::Directory).await?;
    let (shown, mut living) = scene.handshake().await?;
    ensure!(shown == first.der, "the first certificate is not shown");
    ensure!(living.exchange(REQUEST).await?.status() == 200);
    let second = leaf(&scene.authority)?;
    scene.folder.rotate(scene.authority.pem(), &second)?;
    scene.wait_for(&second).await?;
    ensure!(
        living.exchange(REQUEST).await?.status() == 200,
        "a connection that was there did not live on"
    );

    let mut broken = leaf(&scene.authority)?;
    broken.certificate_pem = "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n".to_owned();
    scene.folder.rotate(scene.authority.pem(), &broken)?;
    let failed = || async {
        let labels = "envoy_xds_resource_name=\"identity\"";
        let count = scene
            .process
            .metric("envoy_sds_key_rotation_failed", labels)
            .await;
        count.ok().flatten().unwrap_or(0.0)
    };
    if proxy == Proxy::Remora {
        let counted = async {
            while failed().await < 1.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        client::timed(counted)
            .await
            .context("the failure is not counted")?;
        let path = scene.folder.certificate();
        ensure!(
            scene.process.log().contains(&*path.to_string_lossy()),
            "the log does not name {}:\n{}",
            path.display(),
            scene.process.log()
        );
    }
    ensure!(
        scene.handshake().await?.0 == second.der,
        "the last good identity is gone"
    );

    let third = leaf(&scene.authority)?;
    scene.folder.rotate(scene.authority.pem(), &third)?;
    scene.wait_for(&third).await?;
    ensure!(living.exchange(REQUEST).await?.status() == 200);
    Ok(())
}

async fn rotates_beside(proxy: Proxy) -> Result<()> {
    let (scene, first) = Scene::start(proxy, Watched::Beside).await?;
    ensure!(scene.handshake().await?.0 == first.der);
    let second = leaf(&scene.authority)?;
    replace_beside(&scene.folder, &second)?;
    scene.wait_for(&second).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_directory_is_taken_up_and_a_broken_one_is_not() -> Result<()> {
    for proxy in Proxy::under_test("certificate files, swapped")? {
        rotates(proxy).await.with_context(|| proxy.name())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_renamed_over_are_taken_up() -> Result<()> {
    for proxy in Proxy::under_test("certificate files, renamed")? {
        rotates_beside(proxy).await.with_context(|| proxy.name())?;
    }
    Ok(())
}
