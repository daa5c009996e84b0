//! Which member of an aggregate cluster does a request go to (`envoy.clusters.aggregate`)?
//!
//! The priorities of the members stand behind one another, in the members' order, and one of them is chosen by health as
//! among the priorities of one cluster; the member then chooses in that priority by its own rules.
//! Holds: nothing is kept, each choice looks at the members as they are, so a member may come, change and go; one that is
//! not there and priorities without endpoints are passed over; a member that is an aggregate itself stands for its
//! members, and every cluster stands once, at its first place (gRFC A37), so cycles end.

use std::sync::Arc;

use super::{Cluster, Discovery, Unpickable};
use crate::endpoint::{Health, PriorityLoads};
use crate::snapshot::ClusterId;

/// A priority of a member, and what of it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Counted within the member.
    pub(super) priority: usize,
    /// Its healthy or its degraded endpoints.
    pub(super) class: Health,
}

impl Cluster {
    /// The clusters that it stands for, if it is an aggregate.
    pub fn stands_for(&self) -> Option<&[ClusterId]> {
        match &self.config.discovery {
            Discovery::Aggregate(members) => Some(members),
            _ => None,
        }
    }

    /// The member of this aggregate that a request goes to, of those that `cluster_at` finds.
    ///
    /// # Errors
    /// No member has an endpoint.
    pub fn member<'w>(
        &self,
        cluster_at: impl Fn(ClusterId) -> Option<&'w Arc<Cluster>>,
        rng: &mut fastrand::Rng,
    ) -> Result<(&'w Arc<Cluster>, Level), Unpickable> {
        let members = self.members(&cluster_at);
        let (mut levels, mut standings) = (Vec::new(), Vec::new());
        for member in members {
            for (priority, standing) in member.endpoints.standings().enumerate() {
                if !standing.is_empty() {
                    levels.push((member, priority));
                    standings.push(standing);
                }
            }
        }
        let loads = PriorityLoads::new(&standings, self.config.panic_threshold);
        let (at, class) = loads.choose(rng.u64(..));
        let (member, priority) = *levels.get(at).ok_or(Unpickable::NoEndpoints)?;
        Ok((member, Level { priority, class }))
    }

    /// The members that are there, each once, in order.
    pub fn members<'w>(
        &self,
        cluster_at: &impl Fn(ClusterId) -> Option<&'w Arc<Cluster>>,
    ) -> Vec<&'w Arc<Cluster>> {
        let own = self.stands_for().unwrap_or_default();
        let mut open: Vec<ClusterId> = own.iter().rev().copied().collect();
        let (mut seen, mut found) = (vec![self.config.id], Vec::new());
        while let Some(id) = open.pop() {
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            let Some(cluster) = cluster_at(id) else { continue };
            match cluster.stands_for() {
                Some(further) => open.extend(further.iter().rev()),
                None => found.push(cluster),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::BalancePolicy;
    use crate::cluster::tests::{cluster_of, config_with};
    use crate::cluster::{ClusterLive, PickFacts};
    use crate::endpoint::{Assignment, EndpointSet};
    use Health::{Degraded as D, Healthy as H, Unhealthy as U};

    fn member(index: u32, priorities: &[&[Health]]) -> Arc<Cluster> {
        Arc::new(cluster_of(index, BalancePolicy::RoundRobin, priorities))
    }

    fn aggregate(index: u32, members: &[u32]) -> Arc<Cluster> {
        let members = members
            .iter()
            .map(|index| ClusterId::from_index(*index))
            .collect();
        let config = config_with(
            index,
            BalancePolicy::ClusterProvided,
            1,
            Discovery::Aggregate(members),
        );
        let nothing = Arc::new(Assignment::empty("none".into()));
        Arc::new(Cluster {
            endpoints: Arc::new(EndpointSet::build(nothing, &config.build_options(), |_| None)),
            config,
            live: Arc::new(ClusterLive::default()),
        })
    }

    /// How often of a thousand times each (member, priority, class) is chosen, and an endpoint of it can be.
    fn choices(world: &[Arc<Cluster>]) -> Vec<(usize, usize, Health, u32)> {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut counts: Vec<(usize, usize, Health, u32)> = Vec::new();
        for _ in 0..1_000 {
            let at = |id: ClusterId| world.iter().find(|cluster| cluster.config.id == id);
            let Ok((member, level)) = world[0].member(at, &mut rng) else {
                continue;
            };
            let index = world
                .iter()
                .position(|cluster| Arc::ptr_eq(cluster, member))
                .unwrap();
            let key = (index, level.priority, level.class);
            match counts.iter_mut().find(|count| (count.0, count.1, count.2) == key) {
                Some(count) => count.3 += 1,
                None => counts.push((key.0, key.1, key.2, 1)),
            }
            let facts = PickFacts {
                level: Some(level),
                ..PickFacts::default()
            };
            if let Ok(pick) = member.pick(&facts, &mut rng) {
                assert_eq!(pick.priority as usize, level.priority);
                assert!(pick.panic || pick.endpoint.health() == level.class);
            }
        }
        counts.sort_by_key(|count| (count.0, count.1, count.3));
        counts
    }

    #[test]
    fn the_first_member_gets_all_while_it_is_healthy() {
        let world = [aggregate(0, &[1, 2]), member(1, &[&[H, H]]), member(2, &[&[H]])];
        assert_eq!(choices(&world), [(1, 0, H, 1_000)]);
    }

    #[test]
    fn what_the_first_cannot_bear_goes_to_the_next_priority_whoever_it_belongs_to() {
        // Half of the first is 70 % with overprovisioning; its second priority has no endpoints.
        let world = [
            aggregate(0, &[1, 2]),
            member(1, &[&[H, U], &[], &[U]]),
            member(2, &[&[H]]),
        ];
        let seen = choices(&world);
        let [(1, 0, H, first), (2, 0, H, second)] = seen[..] else {
            panic!("{seen:?}");
        };
        assert!((660..740).contains(&first), "{first} and {second}");
    }

    #[test]
    fn degraded_endpoints_of_an_earlier_member_come_after_healthy_ones_of_a_later() {
        let world = [
            aggregate(0, &[1, 2]),
            member(1, &[&[D, D]]),
            member(2, &[&[H, U]]),
        ];
        let seen = choices(&world);
        let [(1, 0, D, degraded), (2, 0, H, healthy)] = seen[..] else {
            panic!("{seen:?}");
        };
        assert!((660..740).contains(&healthy), "{healthy} and {degraded}");
    }

    #[test]
    fn members_that_are_not_there_or_empty_are_passed_over() {
        let world = [aggregate(0, &[7, 1, 2]), member(1, &[&[]]), member(2, &[&[H]])];
        assert_eq!(choices(&world), [(2, 0, H, 1_000)]);
        assert_eq!(choices(&[aggregate(0, &[7])]), []);
    }

    #[test]
    fn aggregates_inside_stand_for_their_members_and_cycles_end() {
        let world = [
            aggregate(0, &[3, 2]),
            member(1, &[&[U]]),
            member(2, &[&[H]]),
            aggregate(3, &[0, 3, 1]),
        ];
        assert_eq!(choices(&world), [(2, 0, H, 1_000)]);
        let world = [
            aggregate(0, &[3]),
            member(1, &[&[H]]),
            aggregate(3, &[0, 1, 2]),
            member(2, &[&[H]]),
        ];
        assert_eq!(choices(&world), [(1, 0, H, 1_000)]);
    }

    #[test]
    fn where_nobody_is_healthy_all_are_in_panic_by_size() {
        let world = [
            aggregate(0, &[1, 2]),
            member(1, &[&[U]]),
            member(2, &[&[U, U, U]]),
        ];
        let seen = choices(&world);
        let [(1, 0, H, few), (2, 0, H, many)] = seen[..] else {
            panic!("{seen:?}");
        };
        assert!((200..300).contains(&few), "{few} and {many}");
    }
}
