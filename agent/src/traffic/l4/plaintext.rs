//! Connections to an enrolled pod that come in clear text, from clients outside the mesh.

use std::rc::Rc;

use super::pod::{Accepted, PodShard};
use super::record::Connection;
use super::relay;
use crate::mesh::upstream::dial;
use crate::model::address::canonical;
use crate::model::policy::rule::Request;
use crate::telemetry::labels::{Reporter, ResponseFlags};

/// Carries one plaintext connection to the application that it was meant for, from the client's own address.
pub async fn handle(shard: Rc<PodShard>, accepted: Accepted) {
    let Accepted { socket: client, peer, at, permit: _permit } = accepted;
    let context = &shard.context;
    // The redirection chose the listener; the socket still has the address that the client asked for.
    let Ok(target) = client.local_addr().map(canonical) else { return };
    if !matches!(dial::is_own_delivery(&client), Ok(false)) {
        // Taken for plain text because the kernel had no room to note whose it is. Delivering it again would go in circles.
        return;
    }
    let mut connection = Connection::between(Reporter::Destination, peer, target);
    let view = context.view();
    connection.source_workload = view.workload_at(peer.ip()).cloned();
    connection.destination_workload = view.workload(&shard.pod.name).cloned();
    let mut admission = match shard.admissions.admit(&shard.pod.name, Request::new(None, peer.ip(), target)) {
        Ok(admission) => admission,
        Err(verdict) => {
            connection.denied(context, at, verdict);
            return;
        }
    };
    connection.verdict = Some(admission.verdict.clone());

    let dialling =
        dial::connect_application(&shard.pod, &context.sockets, Some(peer.ip()), target, context.patience.overall);
    match dialling.await {
        Ok(server) => {
            let record = connection.opened(context, at);
            let result = relay::sockets(client, server, record.traffic(), admission.revoked()).await;
            record.closed(&result);
        }
        Err(error) => connection.failed(context, at, ResponseFlags::Connect, &error),
    }
}
