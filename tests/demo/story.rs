//! What the demo tells, step by step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::wire::Stream;
use harness::{Agent, Marker, Mesh, Node, Pod, Process, Wire};

use crate::apps::{self, Client, check_answer};
use crate::page::Page;

/// What the whole demo may take.
const LIMIT: Duration = Duration::from_secs(20);

struct Stage {
    page: Page,
    agents: [Agent; 2],
    /// On node a: asks `orders`, and keeps one connection to it open all the time.
    shop: Pod,
    /// On node a: asks `orders` now and then.
    cron: Pod,
    /// On node b: serves.
    orders: Pod,
    /// On node b: asks its neighbour `orders`.
    stock: Pod,
    shop_app: Client,
    cron_app: Client,
    stock_app: Client,
    orders_app: Arc<Process>,
    mesh: Mesh,
}

/// Tells it.
pub(crate) fn tell(page: Page) -> Result<()> {
    let start = Instant::now();
    let Some(mesh) = Mesh::new("demo") else { anyhow::bail!("this machine does not allow it, as said above") };
    page.say(
        "sotto: a service mesh beneath the pods. This demo is two nodes on your machine: network namespaces that are",
    );
    page.say("joined by a bridge. The applications are ordinary processes that know nothing of a mesh.");
    let stage = start_everything(page, mesh)?;
    request_in_clear(&stage)?;
    let waited = join(&stage);
    request_in_the_mesh(&stage, waited)?;
    one_pod_leaves(&stage)?;
    end(stage)?;
    let took = start.elapsed();
    ensure!(took < LIMIT, "everything worked, but it took {took:.1?} and not less than {LIMIT:?}");
    page.say(format_args!("Everything above was checked, in {took:.1?}."));
    Ok(())
}

fn start_everything(page: Page, mesh: Mesh) -> Result<Stage> {
    page.step(1, "Two nodes, each with a sotto agent and two pods");
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let (shop, cron) = (a.pod("shop").start(), a.pod("cron").start());
    let (orders, stock) = (b.pod("orders").start(), b.pod("stock").start());
    let agents = [a.agent().spawn(), b.agent().spawn()];
    let orders_app = apps::start_server(&mesh, &orders)?;
    let [shop_app, cron_app, stock_app] = [&shop, &cron, &stock].map(|pod| apps::start_client(&mesh, pod, &orders));
    let (shop_app, cron_app, stock_app) = (shop_app?, cron_app?, stock_app?);
    agents.iter().for_each(Agent::wait_ready);

    let describe = |node: &Node, agent: &Agent| {
        page.row(&format!("node {node}"), format_args!("{:<12} agent, pid {}", node.ip(), agent.pid()))
    };
    let pod = |pod: &Pod, pid: u32, does: &str| {
        page.row(&format!("  pod {}", pod.name()), format_args!("{:<12} pid {pid}: {does}", pod.ip()))
    };
    describe(&a, &agents[0]);
    pod(&shop, shop_app.process().pid(), "asks orders, and keeps one connection to it open");
    pod(&cron, cron_app.process().pid(), "asks orders");
    describe(&b, &agents[1]);
    pod(&orders, orders_app.pid(), "answers on port 8080, and tells clients their address as it sees it");
    pod(&stock, stock_app.process().pid(), "asks orders, on its own node");
    Ok(Stage { page, agents, shop, cron, orders, stock, shop_app, cron_app, stock_app, orders_app, mesh })
}

fn request_in_clear(stage: &Stage) -> Result<()> {
    let Stage { page, shop, orders, .. } = stage;
    page.step(2, "A request before anybody has joined the mesh");
    let secret = Marker::new();
    let capture = stage.mesh.capture();
    let answer = stage.shop_app.say(secret.as_str())?;
    check_answer(&answer, shop, secret.as_str())?;
    check_answer(&stage.shop_app.keep_saying("first line")?, shop, "first line")?;
    let wire = capture.stop();
    page.row("shop says", &secret);
    page.row("orders answers", &answer);
    show_wire(*page, &wire, shop, orders);
    ensure!(!wire.find(&secret).is_empty(), "the request did not cross between the nodes: {wire}");
    page.exposed("in clear text: whoever reads the wire reads the request and the answer");
    Ok(())
}

fn join(stage: &Stage) -> Duration {
    let page = stage.page;
    page.step(3, "The label istio.io/dataplane-mode=ambient on the pods' namespace");
    let start = Instant::now();
    stage.mesh.namespace("demo").enrol();
    stage.mesh.wait_enrolled(&[&stage.shop, &stage.cron, &stage.orders, &stage.stock]);
    let waited = start.elapsed();
    page.say(format_args!("One line was added to {}", stage.mesh.manifests().join("namespace-demo.yaml").display()));
    page.say("and nothing else: no pod was restarted, nothing was injected, no iptables rule was written.");
    page.good(&format!("all four pods are in the mesh after {} ms", waited.as_millis()));
    waited
}

fn request_in_the_mesh(stage: &Stage, waited: Duration) -> Result<()> {
    let Stage { page, shop, orders, stock, agents, .. } = stage;
    page.step(4, "The same request again");
    let secret = Marker::new();
    let capture = stage.mesh.capture();
    let answer = stage.shop_app.say(secret.as_str())?;
    check_answer(&answer, shop, secret.as_str())?;
    let wire = capture.stop();
    page.row("shop says", &secret);
    page.row("orders answers", &answer);
    show_wire(*page, &wire, shop, orders);
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
    page.good("every byte between the nodes is TLS 1.3, and no piece of the request is in clear");
    page.good(&format!("orders still sees the address of shop itself: {}", shop.ip()));

    let entry = agents[1].wait_access("from shop", |entry| entry.source_identity() == shop.identity());
    ensure!(entry.destination_identity() == orders.identity(), "the access log names another server: {}", entry.line());
    page.row("who spoke", entry.source_identity());
    page.row("to whom", entry.destination_identity());
    page.good("both identities are from the certificates of this connection");

    check_same_processes(stage)?;
    check_answer(&stage.shop_app.keep_saying("second line")?, shop, "second line")?;
    page.good("the processes are the same, and the connection that was open before still exchanges lines");

    let capture = stage.mesh.capture();
    check_answer(&stage.stock_app.say("how many?")?, stock, "how many?")?;
    capture.stop().assert_silent();
    page.good("stock asks orders on its own node, and nothing of it touches the wire");
    ensure!(waited < Duration::from_secs(1), "joining took {waited:?}, not less than a second");
    Ok(())
}

fn one_pod_leaves(stage: &Stage) -> Result<()> {
    let Stage { page, cron, orders, .. } = stage;
    page.step(5, "One pod leaves: the label istio.io/dataplane-mode=none on cron");
    let (inside, outside) = (Marker::new(), Marker::new());
    let capture = stage.mesh.capture();
    check_answer(&stage.cron_app.say(inside.as_str())?, cron, inside.as_str())?;
    let wire = capture.stop();
    wire.assert_never_in_clear(&inside);
    wire.assert_tls13();
    page.good("before: cron speaks TLS 1.3");

    cron.opt_out();
    stage.mesh.wait_left(&[cron]);
    let capture = stage.mesh.capture();
    check_answer(&stage.cron_app.say(outside.as_str())?, cron, outside.as_str())?;
    let wire = capture.stop();
    show_wire(*page, &wire, cron, orders);
    ensure!(!wire.find(&outside).is_empty(), "cron left the mesh, but its request is not in clear: {wire}");
    page.exposed("after: cron is plain again, as it asked");

    let secret = Marker::new();
    let capture = stage.mesh.capture();
    check_answer(&stage.shop_app.say(secret.as_str())?, &stage.shop, secret.as_str())?;
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_only_tls();
    check_same_processes(stage)?;
    page.good("shop is still in the mesh, and nobody was restarted");
    Ok(())
}

fn end(stage: Stage) -> Result<()> {
    let page = stage.page;
    page.step(6, "The agents end");
    for agent in &stage.agents {
        let status = agent.terminate();
        ensure!(status.success(), "the agent of node {} ended with {status}:\n{}", agent.node(), agent.log());
        ensure!(!agent.pins().exists(), "{} is left", agent.pins().display());
    }
    for pod in [&stage.shop, &stage.cron, &stage.orders, &stage.stock] {
        let rules = pod.netns().output("ip", &["rule"]);
        ensure!(!rules.contains("fwmark"), "a routing rule is left in {pod}:\n{rules}");
    }
    check_answer(&stage.shop_app.say("good bye")?, &stage.shop, "good bye")?;
    check_answer(&stage.shop_app.keep_saying("last line")?, &stage.shop, "last line")?;
    check_same_processes(&stage)?;
    page.good("the pods talk as they did in the beginning; the connection that was opened first is still open");
    let names = stage.mesh.namespace_names();
    // Checks that nothing is left, and panics otherwise.
    drop(stage);
    ensure!(
        !names.iter().any(|name| std::path::Path::new("/run/netns").join(name).exists()),
        "namespaces are left: {names:?}"
    );
    page.good("no program in the kernel, no routing rule and no namespace is left");
    Ok(())
}

/// Shows the first bytes that each side sent between the two pods on connections that were opened meanwhile.
fn show_wire(page: Page, wire: &Wire, client: &Pod, server: &Pod) {
    page.say("on the wire");
    for stream in wire.between(client.ip(), server.ip()).filter(|stream| stream.from_start).take(2) {
        page.say(format_args!("  {} -> {}  {}", stream.source, stream.destination, excerpt(stream)));
    }
}

/// The beginning of what one side said, readable if it is text.
fn excerpt(stream: &Stream) -> String {
    if stream.is_tls() {
        let bytes: Vec<String> = stream.first_bytes(12).iter().map(|byte| format!("{byte:02x}")).collect();
        return format!("{} ... ({} bytes of TLS)", bytes.join(" "), stream.len());
    }
    stream.first_bytes(36).escape_ascii().to_string()
}

fn check_same_processes(stage: &Stage) -> Result<()> {
    let clients = [&stage.shop_app, &stage.cron_app, &stage.stock_app];
    let mut processes = clients.into_iter().map(Client::process).chain([&*stage.orders_app]);
    ensure!(processes.all(Process::is_running), "a process of the applications has ended");
    Ok(())
}
