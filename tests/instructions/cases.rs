//! The functions that are counted, each with what it works on.

use std::cell::RefCell;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sotto::drivers::tunnel::ConnectRequest;
use sotto::drivers::tunnel::hbone::frames::Scanner;
use sotto::drivers::tunnel::mux::frame::{HEADER, Header, Kind, Parser};
use sotto::drivers::tunnel::mux::machine::{Event, Limits, Machine, Side};
use sotto::mesh::upstream::route::{hop, route};
use sotto::model::authority::Authority;
use sotto::model::baggage::{Baggage, BaggageText};
use sotto::model::forwarded::Forwarded;
use sotto::model::identity::{Identity, TrustDomain};
use sotto::model::policy::evaluate::evaluate;
use sotto::model::policy::rule::Request;
use sotto::model::traceparent::Traceparent;
use sotto::model::workload::ObjectName;

use crate::state;

/// One turn of a case; it is told which.
pub(crate) type Case = Box<dyn Fn(usize)>;

/// A case's name, and what makes it ready.
type Named = (&'static str, fn() -> Case);

/// All of them.
pub(crate) const ALL: [Named; 11] = [
    ("route-to-service", route_to_service),
    ("route-to-pod", route_to_pod),
    ("evaluate-10-policies", evaluate_policies),
    ("parse-authority", parse_authority),
    ("parse-baggage", parse_baggage),
    ("print-baggage", print_baggage),
    ("parse-forwarded-and-traceparent", parse_forwarded),
    ("scan-hbone-frames", scan_hbone),
    ("parse-mux-frames", parse_mux),
    ("mux-connection", mux_connection),
    ("allocate", allocate),
];

const AUTHORITY: &str = "10.201.2.10:8080";
const BAGGAGE: &str = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=app-1,service.name=app-1,\
    service.version=v1,cloud.region=here,cloud.availability_zone=here-1";
const FORWARDED: &str = "for=\"10.201.1.10:40123\";host=app-1.shop.svc.cluster.local";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn route_to_service() -> Case {
    let view = state::view();
    Box::new(move |turn| {
        let address = SocketAddr::from(([10, 2, 0, turn as u8 % state::SERVICES + 1], 80));
        let route = route(&view, black_box(address)).expect("the service has endpoints");
        black_box(hop(&view, "node-0", route.candidates[turn % route.candidates.len()]))
            .expect("a pod has a way to it");
    })
}

fn route_to_pod() -> Case {
    let view = state::view();
    Box::new(move |turn| {
        let address = SocketAddr::from(([10, 1, turn as u8 % state::SERVICES, 1], 8080));
        black_box(route(&view, black_box(address))).expect("a pod needs no endpoint");
        black_box(hop(&view, "node-1", address)).expect("a pod has a way to it");
    })
}

/// The policy that decides is the last one.
fn evaluate_policies() -> Case {
    let view = state::view();
    let identity = Identity::new(TrustDomain::default(), "shop", "app-10").expect("names are good");
    let source = ([10, 1, 10, 1], 40_123);
    Box::new(move |turn| {
        let pod = ObjectName::new("shop", if turn % 2 == 0 { "app-3-1" } else { "app-4-1" });
        let policies = view.policies_of(&pod).expect("the pod is known");
        let request = Request::new(Some(identity.clone()), source.0.into(), SocketAddr::from(([10, 1, 3, 2], 8080)));
        assert!(evaluate(black_box(&policies), black_box(&request)).allowed());
    })
}

fn allocate() -> Case {
    Box::new(|_| drop(black_box(Box::new([0_u8; 256]))))
}

fn parse_authority() -> Case {
    Box::new(|_| drop(black_box(black_box(AUTHORITY).parse::<Authority>())))
}

fn parse_baggage() -> Case {
    Box::new(|_| drop(black_box(Baggage::parse(black_box(BAGGAGE)))))
}

fn print_baggage() -> Case {
    let baggage = Baggage::parse(BAGGAGE);
    Box::new(move |_| drop(black_box(black_box(&baggage).to_string())))
}

fn parse_forwarded() -> Case {
    Box::new(|_| {
        black_box(Forwarded::parse(black_box(FORWARDED)));
        black_box(black_box(TRACEPARENT).parse::<Traceparent>()).expect("it is one");
    })
}

/// A read of 16 KiB with frames of 1 KiB.
fn scan_hbone() -> Case {
    let frame = |length: usize| [&(length as u32).to_be_bytes()[1..], &[0, 0, 0, 0, 0, 1], &vec![0; length]].concat();
    let bytes = frame(1015).repeat(16);
    Box::new(move |_| {
        Scanner::of_server().scan(black_box(&bytes), |seen| {
            black_box(seen);
        })
    })
}

/// A read of 16 KiB with frames of 1 KiB.
fn parse_mux() -> Case {
    let frame = [&Header::encode(1, Kind::Data, 1016)[..], &[0; 1016]].concat();
    let bytes = frame.repeat(16);
    Box::new(move |_| {
        let (mut parser, mut at) = (Parser::default(), 0);
        while let Some(item) = parser.next(black_box(&bytes), &mut at, bytes.len()).expect("the frames are good") {
            black_box(item);
        }
    })
}

/// Both ends of one connection: asked for, made, a request and an answer of 1 KiB, ended.
fn mux_connection() -> Case {
    let now = Instant::now();
    let limits = Limits {
        max_streams: 100,
        largest_credit: 1 << 20,
        hello: Duration::from_secs(10),
        keepalive_interval: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(10),
    };
    let machine = |side| Machine::<()>::new(side, limits.clone(), now);
    let ends = RefCell::new((machine(Side::Client), machine(Side::Server)));
    {
        let (client, server) = &mut *ends.borrow_mut();
        carry(client, server, now);
        carry(server, client, now);
    }
    Box::new(move |_| {
        let (client, server) = &mut *ends.borrow_mut();
        let request = ConnectRequest {
            authority: AUTHORITY.parse().expect("it is one"),
            baggage: BaggageText::received(BAGGAGE),
            forwarded: Some(Forwarded::parse(FORWARDED)),
            traceparent: TRACEPARENT.parse().ok(),
        };
        let id = client.open(&request).expect("there is room");
        carry(client, server, now);
        server.accept(id, Some(&request.baggage)).expect("it is asked for");
        carry(server, client, now);
        say(client, id, server, now);
        say(server, id, client, now);
        client.release(id);
        server.release(id);
    })
}

/// Sends 1 KiB and the end of the direction.
fn say(from: &mut Machine<()>, id: u32, to: &mut Machine<()>, now: Instant) {
    const BODY: usize = 1024;
    let mut bytes = [0; HEADER + BODY];
    bytes[..HEADER].copy_from_slice(&from.data(id, BODY));
    receive(to, &bytes, now);
    to.consumed(id, BODY);
    from.finish(id).expect("the stream is there");
    carry(from, to, now);
}

fn carry(from: &mut Machine<()>, to: &mut Machine<()>, now: Instant) {
    let bytes = from.take_output();
    receive(to, &bytes, now);
}

fn receive(machine: &mut Machine<()>, bytes: &[u8], now: Instant) {
    let mut events: Vec<Event> = Vec::new();
    machine.receive(bytes, 0..bytes.len(), now, &mut events).expect("the other end keeps to the protocol");
    black_box(events);
}
