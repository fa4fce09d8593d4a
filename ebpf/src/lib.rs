//! What the eBPF programs and the agent share: layouts ([`abi`], [`abi_direct`]) and pure decisions ([`decide`]).
//!
//! Each program is one file beside this one, and `maps.rs` declares the maps:
//!
//! | Map | Key → value | Written by | Read by | Size | When full |
//! |---|---|---|---|---|---|
//! | `PODS` | netns cookie → [`abi::PodAddresses`] | agent | connect | 4,096 | the agent cannot enrol the pod and says so |
//! | `SOCKETS` | socket → [`abi::SocketNote`] | agent (its own sockets), connect (captured ones) | connect, sockops, getpeername | lives in the socket | connect() fails with EPERM, counted |
//! | `ORIGINAL_DESTINATIONS` | [`abi::SourceKey`] → [`abi::OriginalDestination`] | sockops | agent, which takes the entry out | 262,144 | counted; the agent finds no entry and resets the connection |
//! | `ADMITTED_FLOWS` | [`abi::Flow`] → [`abi::admitted`] | sockops | inbound | 262,144 | counted; the flow counts as plain text from outside |
//! | `KUBELETS` | cgroup id → netns cookie of the node | agent | connect | 16 | the agent cannot let the kubelet's probes in and says so |
//! | `SYN_RETRY` | 0 → ticks until the first packet of a captured connection is sent again | agent | sockops | 1 | - |
//! | `VERDICTS` | [`abi_direct::VerdictKey`] → number of the verdict | agent; sockops takes out what failed | connect, inbound | 65,536 | the agent relays |
//! | `LEASE` | 0 → until when verdicts count | agent | connect | 1 | - |
//! | `DIRECT_FLOWS` | [`abi::Flow`] → [`abi_direct::DirectFlow`] | sockops, inbound | sockops, inbound, agent | 262,144 | counted; the connection is cut off before it carries anything |
//! | `SERVICES` | [`abi_direct::Target`] → [`abi_direct::EndpointSet`] | agent | connect | 16,384 | the agent picks |
//! | `ENDPOINTS` | [`abi_direct::EndpointKey`] → [`abi_direct::Target`] | agent | connect | 262,144 | the agent picks |
//! | `FLOW_EVENTS` | ring of [`abi_direct::FlowEnd`] | sockops | agent | 1 MiB | counted; the connection is not told of |
//! | `LISTENERS` | [`abi::ListenerKey`] → listening socket | agent; the kernel removes closed sockets | inbound, hold | 32,768 | the agent cannot serve the pod and says so |
//! | `COUNTERS` | [`abi::Counter`] → number, per CPU | every program | agent | one per counter | - |
//!
//! Addresses in maps are 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`; ports are in host order.
//!
//! A socket is the agent's own because the agent wrote a note about it through its descriptor. A mark (`SO_MARK`) would
//! not do: a pod with `CAP_NET_RAW` can set one and so step around the mesh.
//!
//! Known limits:
//! - A connection's near end is told apart by address and port alone, since its far end is always the pod: a pod has
//!   one range of ephemeral ports for all its captured connections, TIME-WAIT included (`net.ipv4.tcp_tw_reuse` helps).
//! - A multipath TCP socket is captured, but its getpeername() shows the pod's own address: the kernel asks about another
//!   socket than the one that connected.
//! - A pod that speaks to itself from an address other than the one it speaks to counts as outside.
//! - Raw and packet sockets (`CAP_NET_RAW`) and protocols other than TCP are not captured.
//!
//! The programs need Linux 5.17, because of `bpf_sk_lookup.ingress_ifindex`.
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod abi;
pub mod abi_direct;
pub mod decide;
