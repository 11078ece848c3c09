//! One connection of a port that speaks no HTTP: every byte comes back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{limits, told};

/// Sends back what comes, until the client has said everything, is silent for too long, or `stop` ends it.
pub(super) async fn serve(mut stream: TcpStream, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut block = [0; 4096];
    loop {
        let read = tokio::select! {
            read = timeout(limits::IDLE, stream.read(&mut block)) => read,
            () = told(&mut stop) => break,
        };
        let Ok(Ok(count)) = read else { return };
        if count == 0 {
            break;
        }
        match timeout(limits::STALL, stream.write_all(&block[..count])).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    // The client learns that nothing more comes; if it is gone, there is nobody to tell.
    let _ = stream.shutdown().await;
}
