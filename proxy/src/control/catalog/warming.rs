//! When does a cluster become active? When its endpoints are known, its secrets are there, and each endpoint was checked
//! once, as far as it is to be checked.

use std::sync::Arc;

use remora_model::Name;
use remora_model::cluster::Discovery;
use remora_model::endpoint::Assignment;

use super::{Catalog, check_of, resolved};
use crate::control::held::Kind;
use crate::control::needs::{Need, User};
use crate::control::slots::Activated;

impl Catalog {
    /// Activates a warming cluster whose needs are met.
    pub(super) fn warm_cluster(&mut self, name: &Name) {
        let Some(slot) = self.clusters.get(name) else {
            return;
        };
        let Some(waiting) = &slot.warming else { return };
        let config = &waiting.part.config;
        let dns = matches!(
            config.discovery,
            Discovery::StrictDns(_) | Discovery::LogicalDns(_)
        );
        let resolved_before =
            dns && slot.active.is_some()
                && self.edit.preview().cluster(config.id).is_some_and(|active| {
                    resolved::same_targets(&active.config.discovery, &config.discovery)
                });
        let has_endpoints = !dns || waiting.part.own.is_some() || resolved_before;
        if !has_endpoints
            || !waiting
                .needs
                .iter()
                .all(|need| self.is_satisfied(&Need::from(need)))
        {
            return;
        }
        if check_of(config).is_some() && !waiting.part.checked {
            self.rounds_wanted.push(Arc::clone(name));
            return;
        }
        let Some(Activated { part, needs, before }) = self.clusters.activate(name) else {
            return;
        };
        self.serving.remove(&(Kind::Cluster, Arc::clone(name)));
        let id = part.config.id;
        self.note_watched(&part.config);
        let changed = self.edit.set_cluster(Arc::clone(&part.config));
        let by_eds = self.assigned(&needs);
        // What another service (or the cluster itself) said before is not this one's.
        let none_yet = || match &part.config.discovery {
            Discovery::Eds { service } => Some(Arc::new(Assignment::empty(Arc::clone(service)))),
            _ => None,
        };
        if let Some(assignment) = part.own.or(by_eds).or_else(none_yet) {
            if changed {
                self.edit.set_endpoints(id, assignment);
            } else {
                self.set_members(id, assignment);
            }
        }
        self.release(&User::Cluster(Arc::clone(name)), &before, &needs);
    }
}
