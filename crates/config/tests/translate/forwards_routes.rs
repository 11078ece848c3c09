//! TLSRoutes and TCPRoutes of the mesh: which of them the connections of a forward obey, and what is said of the others.

use crate::dump::{check, dump};
use crate::forwards::{BASE, forwards};

/// A route `NAMESPACE/NAME` of a Service, to another of `shop`; `more` are further fields of `spec`.
fn route(kind: &str, name: &str, parent: &str, backend: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, {parent}}}], {more} rules: [{{backendRefs: [{{namespace: shop, {backend}}}]}}]}}\n"
    )
}

const REDIS: &str = "name: redis, port: 6379";
const TO_REDIS: &str = "outbound|6379||redis.shop.svc.cluster.local*1";

#[test]
fn a_tcp_route_takes_the_connections_of_its_port() {
    let yaml = BASE.to_owned() + &route("TCPRoute", "shop/r", "name: db, port: 5432", REDIS, "");
    forwards("> db.shop:5432", &yaml, &format!("forward|127.0.0.1:1\n  [] shop/r 0 -> {TO_REDIS}"));
    forwards(
        "> db.shop:80",
        &yaml,
        "forward|127.0.0.1:1\n  [] shop/db default -> outbound|80||db.shop.svc.cluster.local*1",
    );
    let by_name = BASE.to_owned() + &route("TCPRoute", "shop/r", "name: db, sectionName: http", REDIS, "");
    forwards("> db.shop:80", &by_name, &format!("forward|127.0.0.1:1\n  [] shop/r 0 -> {TO_REDIS}"));
}

#[test]
fn a_tls_route_takes_its_server_names_and_nothing_else_goes_on() {
    let tls = route("TLSRoute", "shop/r", "name: db", REDIS, "hostnames: [a.db, '*.b.db'],");
    let yaml = BASE.to_owned() + &tls;
    forwards(
        "> db.shop:5433 db.shop:5432",
        &yaml,
        &format!(
            "forward|127.0.0.1:1\n  [a.db *.b.db] shop/r 0 -> {TO_REDIS}\n  []  -> BlackHoleCluster*1!500\n\
             forward|127.0.0.1:2\n  [] shop/db default -> outbound|5432||db.shop.svc.cluster.local*1"
        ),
    );
    // A TCPRoute takes the rest; of two routes for one server name the oldest has it.
    let young = route("TLSRoute", "shop/young", "name: db", "name: db, port: 80", "hostnames: [a.db, c.db],");
    let rest = route("TCPRoute", "shop/rest", "name: db, port: 5433", "name: db, port: 80", "");
    let yaml = yaml + &young + &rest;
    let to_db = "outbound|80||db.shop.svc.cluster.local*1";
    forwards(
        "> db.shop:5433",
        &yaml,
        &format!(
            "forward|127.0.0.1:1\n  [a.db *.b.db] shop/r 0 -> {TO_REDIS}\n  [c.db] shop/young 0 -> {to_db}\n  [] shop/rest 0 -> {to_db}"
        ),
    );
    check(
        "> db.shop:5433",
        "findings",
        &yaml,
        "warning [OUT0201] TLSRoute shop/young f.yaml:37:72: has no effect for server name a.db: TLSRoute shop/r at f.yaml:32:72 already has it (a connection goes one way; name the host in one of the two)",
    );
}

#[test]
fn a_consumers_route_counts_for_its_own_namespace_alone() {
    let yaml = BASE.to_owned()
        + &route("TCPRoute", "shop/producer", "name: db, port: 5432", REDIS, "")
        + &route("TCPRoute", "other/consumer", "name: db, namespace: shop, port: 5432", "name: db, port: 80", "");
    let of_producer = format!("forward|127.0.0.1:1\n  [] shop/producer 0 -> {TO_REDIS}");
    forwards("shop/cart > db:5432", &yaml, &of_producer);
    let cart = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart, namespace: other}\nspec:\n  selector: {matchLabels: {app: cart}}\n  template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: c, image: any}]}}\n";
    forwards(
        "other/cart > db.shop:5432",
        &(yaml + cart),
        "forward|127.0.0.1:1\n  [] other/consumer 0 -> outbound|80||db.shop.svc.cluster.local*1",
    );
}

#[test]
fn a_virtual_service_wins() {
    let yaml = BASE.to_owned()
        + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec: {hosts: [db], tcp: [{match: [{port: 5432}], route: [{destination: {host: redis}}]}]}\n"
        + &route("TCPRoute", "shop/r", "name: db, port: 5432", "name: db, port: 80", "");
    forwards(
        "> db.shop:5432",
        &yaml,
        "forward|127.0.0.1:1\n  [] shop/v tcp[0] -> outbound|6379||redis.shop.svc.cluster.local*1",
    );
    check(
        "> db.shop:5432",
        "findings",
        &yaml,
        "warning [OUT0202] TCPRoute shop/r f.yaml:37:54: has no effect for db.shop.svc.cluster.local: VirtualService shop/v at f.yaml:32:27 routes its connections, and a VirtualService wins over a TCPRoute (remove one of the two, or move the rules into the VirtualService)",
    );
    // What it has no rule for is left to the next in line.
    let elsewhere = yaml.replace("port: 5432}], route", "port: 5433}], route");
    forwards(
        "> db.shop:5432",
        &elsewhere,
        "forward|127.0.0.1:1\n  [] shop/r 0 -> outbound|80||db.shop.svc.cluster.local*1",
    );
}

#[test]
fn what_cannot_be_obeyed_is_told() {
    let yaml = BASE.to_owned()
        + &route("TCPRoute", "shop/a", "name: none", REDIS, "")
        + &route("TLSRoute", "shop/b", "name: redis", REDIS, "hostnames: [a.db],")
        + &route("TCPRoute", "shop/c", "name: db, port: 1", REDIS, "")
        + &route("TCPRoute", "shop/d", "name: db, port: 5432", "name: none, port: 1", "");
    check(
        "",
        "findings",
        &yaml,
        "error [IST0101] TCPRoute shop/a f.yaml:32:54: parentRefs[0]: Service shop/none does not exist (the route has no effect there)
         warning [OUT0102] TLSRoute shop/b f.yaml:37:54: parentRefs[0]: Service shop/redis speaks no TLS at that port; its ports are 6379 (tcp-redis) (give the port of the Service `appProtocol: tls`, or use a TCPRoute)
         error [IST0101] TCPRoute shop/c f.yaml:42:64: parentRefs[0]: Service shop/db has no such port; its ports are 5432 (tcp), 5433 (tls), 80 (http) (use one of its ports)
         warning [OUT0103] TCPRoute shop/d f.yaml:47:54: a parent that is a Service: understood, but not enforced yet for calls between services (they flow as if the route were absent; `outrigger run --forward` does obey it)
         error [IST0101] TCPRoute shop/d f.yaml:47:120: backend Service shop/none does not exist (define the Service or ServiceEntry, or correct the host)",
    );
    let found = dump("> db.shop:5432", "findings listeners", &yaml);
    assert!(!found.contains("OUT0103"), "{found}");
    assert!(found.contains("[] shop/d 0 -> outbound|1||none.shop.svc.cluster.local*1!500"), "{found}");
    assert!(found.contains("backend Service shop/none does not exist"), "{found}");
}
