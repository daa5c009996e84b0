//! A session against a server that pushes, breaks streams and is late, and a caller that changes its mind: whatever
//! the order, every response is answered exactly once with the right nonce, and when the trouble stops the caller
//! ends up with what the server has.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use proptest::prelude::{ProptestConfig, prop};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;

type World = BTreeMap<String, String>;

/// One of the two types under test: clusters by wildcard, endpoints by name.
const TYPES: [&str; 2] = [CLUSTER, ENDPOINTS];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What the server knows of one type on one stream.
#[derive(Default)]
struct Watch {
    asked: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    /// Delta: what the client is known to have; nothing for "told that it does not exist".
    known: BTreeMap<String, Option<String>>,
    nonce: String,
    push_due: bool,
    /// Received by the client, not answered.
    unanswered: VecDeque<String>,
    newest_received: String,
    last_names: Option<Vec<String>>,
    introduced: bool,
}

struct Simulation {
    variant: Variant,
    client: Client,
    worlds: [World; 2],
    revision: u32,
    watches: [Watch; 2],
    to_server: VecDeque<Bytes>,
    to_client: VecDeque<(usize, String, Bytes)>,
    /// The caller: what it applied and which updates it has not judged.
    applied: [World; 2],
    interest: BTreeSet<&'static str>,
    in_hand: VecDeque<(ResponseToken, Vec<Rejection>)>,
}

impl Simulation {
    fn new(variant: Variant) -> Self {
        let mut client = Client::new(variant);
        client.session.set_fetch_timeout(ENDPOINTS, None);
        client.session.set_fetch_timeout(CLUSTER, None);
        client.want_all(CLUSTER);
        client.open();
        Self {
            variant,
            client,
            worlds: Default::default(),
            revision: 0,
            watches: Default::default(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            applied: Default::default(),
            interest: BTreeSet::new(),
            in_hand: VecDeque::new(),
        }
    }

    fn step(&mut self, (kind, which, detail): (u8, u8, u8)) {
        let name = NAMES[usize::from(which) % NAMES.len()];
        let index = usize::from(detail) % TYPES.len();
        match kind % 11 {
            10 => self.client.pass(Duration::from_millis(u64::from(detail) * 10)),
            0 => self.change(index, name, "good"),
            1 => self.change(index, name, "bad"),
            2 => self.remove(index, name),
            3 | 4 => self.toggle_interest(name),
            5 => self.client_sends(),
            6 => self.server_reads(),
            7 => self.server_pushes(index),
            8 => self.client_reads(),
            _ if detail % 4 == 0 => self.stream_breaks(),
            _ => self.caller_judges(),
        }
    }

    fn change(&mut self, index: usize, name: &str, quality: &str) {
        self.revision += 1;
        self.worlds[index].insert(name.into(), format!("{quality} {}", self.revision));
        self.watches[index].push_due = true;
    }

    fn remove(&mut self, index: usize, name: &str) {
        // State of the world has no word for endpoints that are gone.
        if index == 0 || self.variant == Variant::Delta {
            self.worlds[index].remove(name);
            self.watches[index].push_due = true;
        }
    }

    fn toggle_interest(&mut self, name: &'static str) {
        if !self.interest.remove(name) {
            self.interest.insert(name);
        }
        self.applied[1].retain(|name, _| self.interest.contains(name.as_str()));
        self.client
            .session
            .want(ENDPOINTS, Interest::names(self.interest.iter().copied()));
    }

    fn client_sends(&mut self) {
        if let Some(request) = self.client.session.poll_request(self.client.now) {
            match self.variant {
                Variant::StateOfTheWorld => {
                    self.account_sotw(&Message::decode(request.message.clone()).unwrap());
                }
                Variant::Delta => self.account_delta(&Message::decode(request.message.clone()).unwrap()),
            }
            self.to_server.push_back(request.message);
        }
    }

    /// A request answers the oldest unanswered response, or it changes the names and carries the newest nonce.
    fn account_sotw(&mut self, request: &discovery::DiscoveryRequest) {
        let watch = &mut self.watches[index_of(&request.type_url)];
        let names_changed = watch.last_names.as_ref() != Some(&request.resource_names);
        if watch.unanswered.front() == Some(&request.response_nonce) {
            watch.unanswered.pop_front();
        } else {
            assert!(
                request.error_detail.is_none() && names_changed,
                "an answer to nothing: {request:?}"
            );
            assert_eq!(
                request.response_nonce, watch.newest_received,
                "not the newest nonce"
            );
        }
        watch.last_names = Some(request.resource_names.clone());
    }

    /// A request answers the oldest unanswered response, or it carries no nonce and changes something.
    fn account_delta(&mut self, request: &discovery::DeltaDiscoveryRequest) {
        let watch = &mut self.watches[index_of(&request.type_url)];
        let changes =
            !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty();
        if request.response_nonce.is_empty() {
            assert!(changes || !watch.introduced, "a request without a purpose");
        } else {
            assert!(!changes, "an answer that changes the interest");
            assert_eq!(
                watch.unanswered.pop_front().as_ref(),
                Some(&request.response_nonce),
                "an answer to nothing"
            );
        }
        watch.introduced = true;
    }

    fn stream_breaks(&mut self) {
        self.client.reopen();
        self.to_server.clear();
        self.to_client.clear();
        self.watches = Default::default();
    }

    fn server_reads(&mut self) {
        let Some(message) = self.to_server.pop_front() else {
            return;
        };
        match self.variant {
            Variant::StateOfTheWorld => self.server_reads_sotw(Message::decode(message).unwrap()),
            Variant::Delta => self.server_reads_delta(Message::decode(message).unwrap()),
        }
    }

    fn server_reads_sotw(&mut self, request: discovery::DiscoveryRequest) {
        let watch = &mut self.watches[index_of(&request.type_url)];
        if !request.response_nonce.is_empty() && request.response_nonce != watch.nonce {
            return; // Stale: servers drop it.
        }
        let names: BTreeSet<_> = request.resource_names.into_iter().collect();
        if !watch.asked {
            watch.wildcard = names.is_empty();
            assert!(
                !watch.wildcard || request.type_url == CLUSTER,
                "asked for all endpoints"
            );
        }
        // Some servers repeat what was rejected.
        watch.push_due |= !watch.asked || names != watch.names || request.error_detail.is_some();
        watch.asked = true;
        watch.names = names;
    }

    fn server_reads_delta(&mut self, request: discovery::DeltaDiscoveryRequest) {
        let watch = &mut self.watches[index_of(&request.type_url)];
        if !watch.asked {
            watch.asked = true;
            watch.wildcard = request.resource_names_subscribe.is_empty();
            assert!(
                !watch.wildcard || request.type_url == CLUSTER,
                "asked for all endpoints"
            );
            let held = request.initial_resource_versions.into_iter();
            watch.known = held.map(|(name, version)| (name, Some(version))).collect();
        } else {
            assert!(request.initial_resource_versions.is_empty());
            for name in &request.resource_names_subscribe {
                watch.known.remove(name);
            }
        }
        for name in &request.resource_names_unsubscribe {
            assert!(
                watch.names.remove(name),
                "unsubscribed from what was not subscribed"
            );
            watch.known.remove(name);
        }
        watch.names.extend(request.resource_names_subscribe);
        watch.push_due = true;
    }

    fn server_pushes(&mut self, index: usize) {
        let (watch, world) = (&mut self.watches[index], &self.worlds[index]);
        if !watch.asked || !std::mem::take(&mut watch.push_due) {
            return;
        }
        self.revision += 1;
        let nonce = format!("n{}", self.revision);
        let wanted = |name: &String| watch.wildcard || watch.names.contains(name);
        let message = match self.variant {
            Variant::StateOfTheWorld => {
                let present = world.iter().filter(|(name, _)| wanted(name));
                let resources = present
                    .map(|(name, content)| resource(index, name, content))
                    .collect();
                response(TYPES[index], &format!("{world:?}"), &nonce, resources).encode_to_vec()
            }
            Variant::Delta => {
                let fresh = |(name, content): &(&String, &String)| {
                    wanted(name) && watch.known.get(*name) != Some(&Some((*content).clone()))
                };
                let fresh: Vec<_> = world.iter().filter(fresh).collect();
                let candidates = watch
                    .known
                    .keys()
                    .chain(&watch.names)
                    .cloned()
                    .collect::<BTreeSet<_>>();
                let gone = candidates.into_iter().filter(|name| !world.contains_key(name));
                let gone: Vec<_> = gone.filter(|name| watch.known.get(name) != Some(&None)).collect();
                if fresh.is_empty() && gone.is_empty() {
                    return;
                }
                watch.known.extend(gone.iter().map(|name| (name.clone(), None)));
                watch.known.extend(
                    fresh
                        .iter()
                        .map(|(name, content)| ((*name).clone(), Some((*content).clone()))),
                );
                let wrap = |(name, content): (&String, &String)| {
                    wrapper(name, content, Some(resource(index, name, content)), None)
                };
                let gone: Vec<_> = gone.iter().map(String::as_str).collect();
                delta_response(TYPES[index], &nonce, fresh.into_iter().map(wrap).collect(), &gone)
                    .encode_to_vec()
            }
        };
        watch.nonce.clone_from(&nonce);
        self.to_client.push_back((index, nonce, message.into()));
    }

    fn client_reads(&mut self) {
        if self.client.session.wants_messages()
            && let Some((index, nonce, message)) = self.to_client.pop_front()
        {
            self.watches[index].unanswered.push_back(nonce.clone());
            self.watches[index].newest_received = nonce;
            self.client.session.on_message(message, self.client.now).unwrap();
        }
        while let Some(event) = self.client.session.poll_event() {
            match event {
                Event::Update(update) => self.caller_applies(update),
                other => panic!("the server did nothing to deserve {other:?}"),
            }
        }
    }

    fn caller_applies(&mut self, update: Update) {
        let index = index_of(&update.type_url);
        let mut rejections = Vec::new();
        // Given up after the update was on its way.
        let wanted = |name: &str| index == 0 || self.interest.contains(name);
        for resource in update
            .resources
            .into_iter()
            .filter(|resource| wanted(&resource.name))
        {
            let content = content_of(index, resource.body);
            if content.starts_with("bad") {
                rejections.push(Rejection::new(resource.name, content));
            } else {
                self.applied[index].insert(resource.name.to_string(), content);
            }
        }
        for name in update.removed {
            self.applied[index].remove(&*name);
        }
        self.in_hand.push_back((update.response, rejections));
    }

    fn caller_judges(&mut self) {
        if let Some((token, rejections)) = self.in_hand.pop_front() {
            self.client.session.verdict(token, rejections, self.client.now);
        }
    }

    /// Good resources for bad ones, and then everything runs until nothing moves.
    fn settle(&mut self) {
        for index in 0..TYPES.len() {
            let bad = self.worlds[index]
                .iter()
                .filter(|(_, content)| content.starts_with("bad"));
            let bad: Vec<_> = bad.map(|(name, _)| name.clone()).collect();
            bad.iter().for_each(|name| self.change(index, name, "good"));
        }
        for _ in 0..1000 {
            self.client_sends();
            self.server_reads();
            self.server_pushes(0);
            self.server_pushes(1);
            self.client_reads();
            self.caller_judges();
            self.client.pass(Duration::from_secs(1));
        }
    }

    fn assert_converged(&mut self) {
        assert!(!self.client.session.has_request() && self.in_hand.is_empty() && self.to_client.is_empty());
        for watch in &self.watches {
            assert!(
                watch.unanswered.is_empty(),
                "never answered: {:?}",
                watch.unanswered
            );
        }
        assert_eq!(self.applied[0], self.worlds[0], "clusters");
        let wanted = |name: &str| self.interest.contains(name);
        let expected: World = self.worlds[1]
            .clone()
            .into_iter()
            .filter(|(name, _)| wanted(name))
            .collect();
        assert_eq!(self.applied[1], expected, "endpoints");
        let held: HashMap<_, _> = self
            .client
            .session
            .statuses()
            .into_iter()
            .map(|status| (status.type_url.to_string(), status))
            .collect();
        let accepted = held[CLUSTER]
            .resources
            .iter()
            .filter(|resource| resource.rejected.is_none())
            .count();
        assert_eq!(accepted, self.worlds[0].len());
    }
}

fn index_of(type_url: &str) -> usize {
    TYPES
        .iter()
        .position(|known| *known == type_url)
        .expect("one of the two types")
}

fn resource(index: usize, name: &str, content: &str) -> Any {
    if index == 0 {
        return cluster(name, content);
    }
    let named_endpoints = HashMap::from([(content.to_owned(), Default::default())]);
    let assignment = ClusterLoadAssignment {
        cluster_name: name.into(),
        named_endpoints,
        ..ClusterLoadAssignment::default()
    };
    any(ENDPOINTS, &assignment)
}

fn content_of(index: usize, body: Bytes) -> String {
    if index == 0 {
        return Cluster::decode(body).unwrap().alt_stat_name;
    }
    ClusterLoadAssignment::decode(body)
        .unwrap()
        .named_endpoints
        .into_keys()
        .next()
        .unwrap()
}

fn explore(variant: Variant, steps: Vec<(u8, u8, u8)>) {
    let mut simulation = Simulation::new(variant);
    for step in steps {
        simulation.step(step);
    }
    simulation.settle();
    simulation.assert_converged();
}

/// Plays random orders, and says with which command a failing one is played again.
///
/// `PROPTEST_CASES` orders are played (256 unless said), the first one from `REMORA_SEED` (drawn unless said).
fn play(test: &str, variant: Variant) {
    let said = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let cases = said("PROPTEST_CASES").unwrap_or(256);
    let first = said("REMORA_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let steps = prop::collection::vec(proptest::arbitrary::any::<(u8, u8, u8)>(), 0..150);
    for seed in first..first + cases {
        let config = ProptestConfig {
            cases: 1,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let bytes: [u8; 32] = std::array::from_fn(|at| seed.to_le_bytes()[at % 8]);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let played = TestRunner::new_with_rng(config, rng).run(&steps, |steps| {
            explore(variant, steps);
            Ok(())
        });
        if let Err(failure) = played {
            panic!(
                "{failure}\nto play it again: REMORA_SEED={seed} PROPTEST_CASES=1 cargo test --workspace --lib {test}"
            );
        }
    }
}

#[test]
fn whatever_happens_state_of_the_world_converges() {
    play(
        "whatever_happens_state_of_the_world_converges",
        Variant::StateOfTheWorld,
    );
}

#[test]
fn whatever_happens_delta_converges() {
    play("whatever_happens_delta_converges", Variant::Delta);
}
