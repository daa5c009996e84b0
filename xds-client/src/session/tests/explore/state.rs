//! One moment of the model, what a move makes of it, and what must hold.

use super::bounds::{Bounds, Counts, Kind};
use super::moves::{Garbage, Move};
use super::server::{BAD, ByName, Content, GONE, Heard, NAMES, Push, Server, TYPES, bit_of, bits};
use super::*;
use crate::wire;

/// An update that the caller has not judged yet.
#[derive(Clone, Debug)]
pub(super) struct InHand {
    pub(super) serial: u64,
    pub(super) rejects: u8,
    pub(super) garbage: bool,
}

/// What the stream owes to the rules, by type.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    /// Received, not answered.
    pub(super) unanswered: VecDeque<u32>,
    pub(super) newest: u32,
    /// State of the world: what the last request named, and whether all was meant.
    pub(super) last: Option<(u8, bool)>,
}

#[derive(Clone)]
pub(super) struct State<'a> {
    pub(super) bounds: &'a Bounds,
    pub(super) left: Counts,
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) server: Server,
    pub(super) to_server: VecDeque<Heard>,
    pub(super) to_client: VecDeque<Push>,
    pub(super) accounts: [Accounts; TYPES],
    /// The caller: what it wants by name, what it uses, what it is thinking about.
    pub(super) wanted: [u8; TYPES],
    pub(super) applied: [ByName<Content>; TYPES],
    pub(super) in_hand: [Option<InHand>; TYPES],
}

/// A resource of the model.
#[derive(Clone, PartialEq, prost::Message)]
struct Body {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    content: u32,
}

impl<'a> State<'a> {
    /// Everything is wanted, and no stream is open yet.
    pub(super) fn new(bounds: &'a Bounds) -> Self {
        let mut settings = Settings::new(bounds.variant, Bytes::from_static(b"node"));
        if !bounds.fetch_timeout {
            settings.fetch_timeout = None;
        }
        let mut state = Self {
            bounds,
            left: bounds.counts,
            session: Session::new(settings),
            now: Instant::now(),
            server: Server::new(bounds),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            accounts: Default::default(),
            wanted: [0; TYPES],
            applied: [[GONE; 3]; TYPES],
            in_hand: [const { None }; TYPES],
        };
        for index in 0..bounds.kinds.len() {
            let all = (1 << bounds.names) - 1;
            state.want(
                index,
                if bounds.kinds[index] == Kind::Named {
                    all
                } else {
                    0
                },
            );
        }
        state
    }

    pub(super) fn make(&mut self, step: Move) {
        match step {
            Move::Start => unreachable!("not a move"),
            Move::ClientSends => self.client_sends(),
            Move::ServerReads => {
                let heard = self.to_server.pop_front().unwrap();
                self.server.read(self.bounds, &heard);
                if heard.rejects && self.left.repeats > 0 {
                    // go-control-plane in state of the world.
                    self.left.repeats -= 1;
                    self.server.watches[heard.index].push_due = true;
                }
            }
            Move::ServerPushes(index) => self.server_pushes(index, None),
            Move::ClientReads => self.client_reads(),
            Move::CallerJudges(index) => self.caller_judges(index),
            Move::StreamOpens => self.session.on_stream_open(),
            Move::TimePasses => self.time_passes(),
            Move::Changes(index, name, content) => {
                self.left.changes -= 1;
                self.server.change(index, name, content);
            }
            Move::Wishes(index, names) => {
                self.left.wishes -= 1;
                self.want(index, names);
            }
            Move::StreamBreaks => {
                self.left.breaks -= 1;
                self.stream_ends();
            }
            Move::SendsGarbage(index, kind) => {
                self.left.garbage -= 1;
                self.server_pushes(index, Some(kind));
            }
            Move::PushesAgain(index) => {
                self.left.repeats -= 1;
                self.server.forget(index);
                self.server_pushes(index, None);
            }
            Move::SendsTwice => {
                self.left.repeats -= 1;
                let last = self.to_client.back().unwrap().clone();
                self.to_client.push_back(last);
            }
        }
    }

    fn want(&mut self, index: usize, names: u8) {
        let kind = self.bounds.kinds[index];
        self.wanted[index] = names;
        let by_name = bits(names).map(|name| NAMES[name]);
        let interest = match kind {
            Kind::Wildcard => Interest::Wildcard,
            Kind::Named => Interest::names(by_name),
            Kind::Both => Interest::names(by_name.chain(["*"])),
        };
        if kind == Kind::Named {
            bits(!names).for_each(|name| self.applied[index][name] = GONE);
        }
        self.session.want(self.bounds.type_url(index), interest);
    }

    fn index_of(&self, type_url: &str) -> usize {
        (0..self.bounds.kinds.len())
            .find(|index| self.bounds.type_url(*index) == type_url)
            .expect("a type of the model")
    }

    // --- the stream

    fn stream_ends(&mut self) {
        self.session.on_stream_end();
        self.server.stream_ends();
        self.to_server.clear();
        self.to_client.clear();
        self.accounts = Default::default();
    }

    fn client_sends(&mut self) {
        let Some(request) = self.session.poll_request(self.now) else {
            return; // It thought better of it.
        };
        let heard = match self.bounds.variant {
            Variant::StateOfTheWorld => self.account_sotw(request.message),
            Variant::Delta => self.account_delta(request.message),
        };
        self.to_server.push_back(heard);
    }

    /// A request answers the oldest unanswered response, or it changes the names under the newest nonce.
    fn account_sotw(&mut self, message: Bytes) -> Heard {
        let request = wire::SotwRequest::decode(message).unwrap();
        let index = self.index_of(&request.type_url);
        let nonce = nonce_of(&request.response_nonce);
        let (names, star) = named(&request.resource_names);
        let account = &mut self.accounts[index];
        if account.unanswered.front() == Some(&nonce) && nonce != 0 {
            account.unanswered.pop_front();
        } else {
            assert!(
                request.error_detail.is_none() && account.last != Some((names, star)),
                "an answer to nothing: {request:?}"
            );
            assert!(
                account.unanswered.is_empty(),
                "said while an answer is due: {request:?}"
            );
            assert_eq!(nonce, account.newest, "not the newest nonce");
        }
        account.last = Some((names, star));
        Heard {
            index,
            nonce,
            rejects: request.error_detail.is_some(),
            names,
            star,
            unsubscribed: 0,
            initial: [GONE; 3],
        }
    }

    /// A request answers the oldest unanswered response, or it carries no nonce and changes something.
    fn account_delta(&mut self, message: Bytes) -> Heard {
        let request = wire::DeltaRequest::decode(message).unwrap();
        let index = self.index_of(&request.type_url);
        let nonce = nonce_of(&request.response_nonce);
        let (names, star) = named(&request.resource_names_subscribe);
        let (unsubscribed, unstar) = named(&request.resource_names_unsubscribe);
        assert!(!unstar, "nobody gave up the wildcard");
        let account = &mut self.accounts[index];
        let changes = star || names | unsubscribed != 0;
        if nonce == 0 {
            assert!(changes || account.last.is_none(), "a request without a purpose");
        } else {
            assert!(!changes, "an answer that changes the interest");
            assert_eq!(
                account.unanswered.pop_front(),
                Some(nonce),
                "an answer to nothing"
            );
        }
        account.last = Some((0, false));
        let mut initial = [GONE; 3];
        for (name, version) in &request.initial_resource_versions {
            initial[bit_of(name).trailing_zeros() as usize] = version.parse().unwrap();
        }
        Heard {
            index,
            nonce,
            rejects: request.error_detail.is_some(),
            names,
            star,
            unsubscribed,
            initial,
        }
    }

    fn server_pushes(&mut self, index: usize, garbage: Option<Garbage>) {
        let push = self.server.push(self.bounds, index, garbage);
        self.to_client.push_back(push);
    }

    fn client_reads(&mut self) {
        let push = self.to_client.pop_front().unwrap();
        if push.garbage == Some(Garbage::Noise) {
            let noise = Bytes::from_static(&[0xff; 9]);
            assert!(self.session.on_message(noise, self.now).is_err());
            return self.stream_ends();
        }
        let account = &mut self.accounts[push.index];
        account.unanswered.push_back(push.nonce);
        account.newest = push.nonce;
        let message = encode(self.bounds, &push);
        self.session.on_message(message, self.now).unwrap();
        self.caller_listens();
    }

    // --- the caller

    fn caller_listens(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Update(update) => self.caller_applies(update),
                Event::Refused { .. } | Event::Missing { .. } => {}
                other => panic!("nobody did anything to deserve {other:?}"),
            }
        }
    }

    fn caller_applies(&mut self, update: Update) {
        let index = self.index_of(&update.type_url);
        let mut rejects = 0;
        for resource in update.resources {
            let bit = bit_of(&resource.name);
            // Given up while the update was on its way.
            if self.bounds.kinds[index] == Kind::Named && self.wanted[index] & bit == 0 {
                continue;
            }
            let content = Content::try_from(Body::decode(resource.body).unwrap().content).unwrap();
            if content == BAD {
                rejects |= bit;
            } else {
                self.applied[index][bit.trailing_zeros() as usize] = content;
            }
        }
        for name in update.removed {
            self.applied[index][bit_of(&name).trailing_zeros() as usize] = GONE;
        }
        assert!(
            self.in_hand[index].is_none(),
            "a second update before the verdict"
        );
        self.in_hand[index] = Some(InHand {
            serial: update.response.serial,
            rejects,
            garbage: !update.unreadable.is_empty(),
        });
    }

    fn caller_judges(&mut self, index: usize) {
        let InHand { serial, rejects, .. } = self.in_hand[index].take().unwrap();
        let response = ResponseToken {
            type_url: self.bounds.type_url(index).into(),
            serial,
        };
        let rejections = bits(rejects)
            .map(|name| Rejection::new(NAMES[name], "bad"))
            .collect();
        self.session.verdict(response, rejections, self.now);
        self.caller_listens();
    }

    fn time_passes(&mut self) {
        self.now += Duration::from_secs(3600);
        self.session.on_time(self.now);
        self.caller_listens();
    }

    // --- what must hold

    /// What must hold in every state.
    pub(super) fn assert_invariants(&self) {
        for subscription in &self.session.subscriptions {
            let index = self.index_of(&subscription.type_url);
            if self.in_hand[index].is_none() {
                let held = subscription.held.keys().fold(0, |held, name| held | bit_of(name));
                assert_eq!(
                    held,
                    used(&self.applied[index]),
                    "held is not what the caller uses"
                );
            }
        }
    }

    /// What must hold when nothing can move by itself.
    pub(super) fn assert_converged(&self) {
        assert!(self.session.is_open(), "no stream");
        for (index, kind) in self.bounds.kinds.iter().enumerate() {
            let account = &self.accounts[index];
            assert!(
                account.unanswered.is_empty(),
                "never answered: {:?}",
                account.unanswered
            );
            self.server.assert_knows(index, self.wanted[index], *kind);
            for name in 0..usize::from(self.bounds.names) {
                self.assert_same(index, name);
            }
        }
    }

    fn assert_same(&self, index: usize, name: usize) {
        let by_name = self.wanted[index] & (1 << name) != 0;
        let (theirs, ours) = (self.server.world[index][name], self.applied[index][name]);
        let said_so = self.bounds.variant == Variant::Delta || self.bounds.kinds[index] != Kind::Named;
        let place = format!("type {index}, name {}", NAMES[name]);
        match theirs {
            _ if self.bounds.kinds[index] == Kind::Named && !by_name => assert_eq!(ours, GONE, "{place}"),
            GONE if said_so => assert_eq!(ours, GONE, "{place}"),
            // State of the world has no word for it.
            GONE => {}
            BAD => {
                let status = self.session.status(self.bounds.type_url(index)).unwrap();
                let resource = status
                    .resources
                    .iter()
                    .find(|resource| &*resource.name == NAMES[name]);
                let rejected = resource.is_some_and(|resource| resource.rejected.is_some());
                assert!(rejected, "{place}: a bad resource that nobody was told of");
            }
            good => assert_eq!(ours, good, "{place}"),
        }
    }
}

fn used(contents: &ByName<Content>) -> u8 {
    let names = (0..contents.len()).filter(|name| contents[*name] != GONE);
    names.fold(0, |used, name| used | 1 << name)
}

fn nonce_of(text: &str) -> u32 {
    if text.is_empty() { 0 } else { text.parse().unwrap() }
}

fn named(names: &[String]) -> (u8, bool) {
    let star = names.iter().any(|name| name == "*");
    let bits = names.iter().filter(|name| *name != "*").map(|name| bit_of(name));
    (bits.fold(0, |all, bit| all | bit), star)
}

fn encode(bounds: &Bounds, push: &Push) -> Bytes {
    let type_url = bounds.type_url(push.index);
    let body = |name: &str, content: Content| Body {
        name: name.into(),
        content: content.into(),
    };
    let mut entries: Vec<(Body, Vec<u8>)> = push
        .resources
        .iter()
        .map(|(name, content)| body(NAMES[*name], *content))
        .map(|body| (body.clone(), body.encode_to_vec()))
        .collect();
    match push.garbage {
        Some(Garbage::BadEntry) => entries.push((body("", 0), vec![0xff; 3])),
        Some(Garbage::Stranger) => entries.push((body("z", 1), body("z", 1).encode_to_vec())),
        Some(Garbage::Twice) => {
            let twice = body(NAMES[0], 1);
            entries.push((twice.clone(), twice.encode_to_vec()));
            entries.push((twice.clone(), twice.encode_to_vec()));
        }
        Some(Garbage::Noise) | None => {}
    }
    let any = |value: Vec<u8>| wire::Any {
        type_url: Bytes::from_static(type_url.as_bytes()),
        value: value.into(),
    };
    let resources: Vec<Vec<u8>> = match bounds.variant {
        Variant::StateOfTheWorld => entries
            .into_iter()
            .map(|(_, value)| any(value).encode_to_vec())
            .collect(),
        Variant::Delta => entries
            .into_iter()
            .map(|(body, value)| wire::ResourceWrapper {
                version: body.content.to_string(),
                resource: Some(any(value)),
                name: body.name,
                ..wire::ResourceWrapper::default()
            })
            .map(|wrapper| wrapper.encode_to_vec())
            .collect(),
    };
    let head = wire::ResponseHead {
        version: format!("{:?} {} {:?}", push.resources, push.removed, push.garbage),
        type_url: type_url.into(),
        nonce: push.nonce.to_string(),
    };
    let body = wire::DeltaBody {
        resources: resources.into_iter().map(Bytes::from).collect(),
        removed_resources: bits(push.removed).map(|name| NAMES[name].to_owned()).collect(),
        ..wire::DeltaBody::default()
    };
    // The fields of one message may stand in any order.
    [head.encode_to_vec(), body.encode_to_vec()].concat().into()
}
