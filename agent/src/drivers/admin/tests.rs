//! Clients that mean well, and others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{AdminServer, Page, Route};

/// What the server is asked for, and a page that counts how often POST has changed something.
async fn server() -> (AdminServer, SocketAddr, Arc<AtomicUsize>) {
    let changes = Arc::new(AtomicUsize::new(0));
    let changed = Arc::clone(&changes);
    let routes = vec![
        Route::new("/metrics", "counts", |query| Page::text(200, format!("one 1 {query}\n"))),
        Route::new("/logging", "levels", |_| Page::text(200, "info\n")).with_post(move |_| {
            changed.fetch_add(1, Ordering::SeqCst);
            Page::text(200, "changed\n")
        }),
        Route::new("/big", "more than a socket takes", |_| Page::text(200, "x".repeat(64 << 20))),
    ];
    let server = AdminServer::bind("127.0.0.1:0".parse().unwrap(), routes).await.unwrap().for_this_machine();
    let address = server.address().unwrap();
    (server, address, changes)
}

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough may close before all is written.
    let _heard_enough = client.write_all(request).await;
    let mut answer = Vec::new();
    let _reset = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn pages_are_served_and_anything_else_is_answered_politely() {
    let (server, address, changes) = server().await;
    let client = async {
        let rows: [(&[u8], &str, &str); 9] = [
            (b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", "200", "one 1 \n"),
            (b"GET /metrics?a=%00&b=c HTTP/1.1\r\nhost: [::1]:1\r\n\r\n", "200", "one 1 a=%00&b=c\n"),
            (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", "200", "more than a socket takes\n"),
            (b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n", "404", "more than a socket takes\n"),
            (b"POST /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", "405", "only GET is answered here\n"),
            (b"DELETE /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", "405", "answered here\n"),
            (b"GET /logging HTTP/1.0\r\n\r\n", "200", "info\n"),
            (
                b"POST /logging?level=debug HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc",
                "200",
                "changed\n",
            ),
            (b"\x16\x03\x01garbage\r\n\r\n", "400", ""),
        ];
        for (request, status, end) in rows {
            let answer = ask(address, request).await;
            let head = answer.split(' ').nth(1);
            assert!(head == Some(status) && answer.ends_with(end), "{}: {answer}", String::from_utf8_lossy(request));
        }
        assert_eq!(changes.load(Ordering::SeqCst), 1);
    };
    server.serve(client).await;
}

#[tokio::test]
async fn web_pages_and_names_that_dns_has_answered_change_and_learn_nothing() {
    let (server, address, changes) = server().await;
    let client = async {
        for (line, method) in [
            ("host: evil.example:15000", "GET"),
            ("host: evil.example:15000", "POST"),
            ("host: localhost\r\norigin: https://evil.example", "POST"),
            ("host: localhost\r\norigin: null", "POST"),
            ("host: localhost\r\nsec-fetch-site: cross-site", "GET"),
            ("host: localhost\r\nhost: evil.example", "POST"),
        ] {
            let answer =
                ask(address, format!("{method} /logging?level=off HTTP/1.1\r\n{line}\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{line}: {answer}");
            assert!(!answer.contains("access-control") && !answer.contains("info\n"), "{answer}");
        }
        let absolute = ask(address, b"GET http://evil.example/logging HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(absolute.starts_with("HTTP/1.1 403"), "{absolute}");
        assert_eq!(changes.load(Ordering::SeqCst), 0);
    };
    server.serve(client).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_without_being_kept() {
    let (server, address, changes) = server().await;
    let client = async {
        let long = "x".repeat(9000);
        let uri = ask(address, format!("GET /metrics?{long} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await;
        assert!(uri.starts_with("HTTP/1.1 414"), "{uri}");
        let head =
            ask(address, format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {long}{long}{long}\r\n\r\n").as_bytes())
                .await;
        assert!(head.starts_with("HTTP/1.1 431"), "{head}");
        let many: String = (0..500).map(|n| format!("h{n}: x\r\n")).collect();
        let many = ask(address, format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").as_bytes()).await;
        assert!(many.starts_with("HTTP/1.1 431"), "{many}");
        let post = "POST /logging HTTP/1.1\r\nhost: localhost\r\n";
        let told = ask(address, format!("{post}content-length: 9000\r\n\r\n{long}").as_bytes()).await;
        assert!(told.starts_with("HTTP/1.1 413") || told.is_empty(), "{told}");
        let chunked =
            ask(address, format!("{post}transfer-encoding: chunked\r\n\r\n2328\r\n{long}\r\n0\r\n\r\n").as_bytes())
                .await;
        assert!(chunked.starts_with("HTTP/1.1 413") || chunked.is_empty(), "{chunked}");
        assert_eq!(changes.load(Ordering::SeqCst), 0);
    };
    server.serve(client).await;
}

#[tokio::test]
async fn clients_that_neither_write_nor_read_do_not_keep_others_out() {
    let (mut server, address, _) = server().await;
    server.limit_times(Duration::from_millis(200), Duration::from_millis(400));
    let client = async {
        let mut idle = Vec::new();
        for number in 0..128 {
            let mut client = TcpStream::connect(address).await.unwrap();
            let request: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n",
                _ => b"POST /logging HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nab",
            };
            client.write_all(request).await.unwrap();
            idle.push(client);
        }
        // Behind twice as many clients as there are places.
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(idle);
    };
    tokio::time::timeout(Duration::from_secs(20), server.serve(client)).await.expect("everybody's turn comes");
}
