//! Ids of emissions.

use uuid::Uuid;

use super::name::RouteName;

/// Namespace of emission ids: UUID version 5 of "trunkline:emission" in the URL namespace of RFC 9562.
const EMISSION_NAMESPACE: Uuid = Uuid::from_u128(0x6d5c_1f0e_9b57_5f0b_8e55_0f6f_7c7a_2b11);

/// The id of an emission: UUID version 5 of the input's id, the route and the index, or the plugin's dedupe key instead of
/// the index. The id does not depend on time, attempt or plugin digest, so a redelivery gives the same ids even when the
/// plugin was replaced in between.
#[must_use]
pub fn emission_id(input_id: &str, route: &RouteName, index: usize, dedupe_key: Option<&str>) -> String {
    let mut name = Vec::with_capacity(input_id.len() + route.as_str().len() + 24);
    // Length prefixes keep ("a", "bc") and ("ab", "c") apart.
    for part in [input_id, route.as_str()] {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    match dedupe_key {
        Some(key) => {
            name.push(b'k');
            name.extend_from_slice(key.as_bytes());
        }
        None => {
            name.push(b'i');
            name.extend_from_slice(&(index as u64).to_be_bytes());
        }
    }
    Uuid::new_v5(&EMISSION_NAMESPACE, &name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> RouteName {
        RouteName::new(name).expect("valid")
    }

    #[test]
    fn emission_ids_are_stable_and_apart() {
        let id = emission_id("event-1", &route("a"), 0, None);
        assert_eq!(id, emission_id("event-1", &route("a"), 0, None), "the same emission has the same id");
        let others = [
            emission_id("event-1", &route("a"), 1, None),
            emission_id("event-1", &route("b"), 0, None),
            emission_id("event-2", &route("a"), 0, None),
            emission_id("event-1", &route("a"), 0, Some("task")),
            emission_id("event-1a", &route("x"), 0, None),
            emission_id("event-1", &route("ax"), 0, None),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(&id, other);
            assert!(!others[index + 1..].contains(other), "{other} twice");
        }
        let keyed = emission_id("event-1", &route("a"), 0, Some("task"));
        assert_eq!(keyed, emission_id("event-1", &route("a"), 7, Some("task")), "a dedupe key replaces the index");
    }

    #[test]
    fn emission_ids_never_change_between_versions() {
        // A new release that gave other ids would defeat every consumer's dedupe in the middle of a redelivery.
        assert_eq!(emission_id("e", &route("r"), 0, None), "6a7fa669-6cd6-5096-a7a4-3710dc5e30d5");
    }
}
