//! Long lists of routes.

use super::*;
use crate::route::RouteList;

/// A beginning, or a whole path, over few letters, so that many begin alike.
fn path(rng: &mut fastrand::Rng, parts: usize) -> String {
    let parts = rng.usize(..=parts);
    (0..parts)
        .map(|_| ["/a", "/b", "/ab", "c", "/"][rng.usize(..5)])
        .collect()
}

fn criteria(rng: &mut fastrand::Rng) -> PathMatch {
    let literal = path(rng, 4);
    let pattern = Pattern::new(&literal, rng.u8(..16) == 0);
    match rng.u8(..40) {
        0..20 => PathMatch::Prefix(pattern),
        20..30 => PathMatch::Exact(pattern),
        30..38 => PathMatch::SeparatedPrefix(pattern),
        38 => PathMatch::Regex(crate::matching::whole_match("/a.*").unwrap()),
        _ => PathMatch::Connect,
    }
}

#[test]
fn an_indexed_list_finds_what_asking_each_in_order_finds() {
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let routes: Vec<Arc<Route>> = (0..rng.usize(33..200))
            .map(|_| route(criteria(&mut rng), respond()))
            .collect();
        let list = RouteList::from(routes.clone());
        for _ in 0..50 {
            let path = path(&mut rng, 6);
            // Some routes have further predicates.
            let refused = rng.usize(..4);
            let asked = |route: &Route| {
                let at = routes
                    .iter()
                    .position(|other| std::ptr::eq(&raw const **other, route))
                    .unwrap();
                at % 4 != refused && route.criteria.path.matches(&path, &Method::GET)
            };
            let expected = routes.iter().find(|route| asked(route));
            let found = list.first(&path, asked);
            assert!(
                found.map(Arc::as_ptr) == expected.map(Arc::as_ptr),
                "{path}: {:?} instead of {:?}",
                found.map(|route| &route.criteria.path),
                expected.map(|route| &route.criteria.path)
            );
        }
    }
}

#[test]
fn of_ten_thousand_prefixes_one_is_asked() {
    let routes: Vec<Arc<Route>> = (0..10_000)
        .map(|number| route(prefix(&format!("/part/{number:05}/")), respond()))
        .collect();
    let list = RouteList::from(routes.clone());
    let mut asked = 0;
    let found = list.first("/part/09999/x", |route| {
        asked += 1;
        route.criteria.path.matches("/part/09999/x", &Method::GET)
    });
    assert!(Arc::ptr_eq(found.unwrap(), &routes[9999]));
    assert_eq!(asked, 1);
    assert!(list.first("/other", |_| true).is_none());
}
