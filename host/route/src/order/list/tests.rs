//! The list of those that wait, by itself.

use super::*;

const NOW: Duration = Duration::from_secs(1);

fn one(key: &str, id: &str) -> Waiter {
    waiter(id, key)
}

fn at(number: u64) -> ListPlace {
    ListPlace { number, round: Duration::from_millis(500) }
}

fn place(list: &mut List<u32>, waiter: &Waiter) -> Option<u64> {
    list.place(waiter, Duration::from_millis(500)).map(|place| place.number)
}

#[test]
fn an_entry_reads_back_as_its_event() {
    let queue = QueueName::new("q.waiting").expect("valid");
    let key = HeaderKey::new(b"0123456789abcdef");
    let mut message = entry(&queue, &one("k", "e1"), at(7), Some(&key)).message.copy();
    assert_eq!(key.admit(&mut message), trunkline_event::Trust::Signed);
    assert_eq!(read(&message), ListMessage::Entry(one("k", "e1"), at(7)));
    assert_eq!(read(&marker(&queue, "t", None).message), ListMessage::Marker("t".to_owned()));
    let mut forged = entry(&queue, &one("k", "e1"), at(7), None).message.copy();
    let _forged = key.admit(&mut forged);
    assert_eq!(read(&forged), ListMessage::Unknown);
}

#[test]
fn long_keys_are_known_by_their_hash() {
    assert_eq!(ordering_key("k".repeat(200)), "k".repeat(200));
    let [one, other] = ["a", "b"].map(|end| ordering_key(format!("{}{end}", "é".repeat(5000))));
    assert!(one != other && one.len() < 200, "{one}");
}

#[test]
fn entries_are_in_the_order_of_their_places() {
    let mut list = List::default();
    for (key, id, number, delivery) in [("a", "e3", 9, 1), ("b", "e2", 4, 2), ("a", "e1", 2, 3), ("a", "e3", 12, 4)] {
        list.read(one(key, id), at(number), delivery, NOW);
    }
    assert_eq!(list.waiters(), [one("a", "e1"), one("b", "e2"), one("a", "e3")]);
    assert_eq!(place(&mut list, &one("a", "e3")), None, "it is listed");
    assert_eq!(place(&mut list, &one("a", "e4")), Some(13));
    assert_eq!(list.remove(&one("a", "e3")), Removal::Now(vec![1, 4]));
    assert_eq!(list.remove(&one("a", "e3")), Removal::Nothing);
}

#[test]
fn the_delivery_waits_for_an_entry_that_is_on_its_way() {
    let mut list = List::default();
    let e1 = one("a", "e1");
    assert_eq!(place(&mut list, &e1), Some(1));
    list.confirmed(&e1);
    assert_eq!(list.remove(&e1), Removal::Later);
    assert_eq!(list.arrived(&e1, 1, NOW), (vec![1], true));
    assert!(list.is_empty());
    // One that was never confirmed may come or not.
    assert_eq!(place(&mut list, &e1), Some(2));
    assert_eq!(list.remove(&e1), Removal::Nothing);
    assert_eq!(list.arrived(&e1, 2, NOW), (vec![2], false), "no event waits under this name");
}

#[test]
fn an_event_that_does_not_come_is_missing_and_another_key_is_noticed() {
    let mut list = List::default();
    list.read(one("a", "e1"), at(1), 1, NOW);
    list.read(one("a", "e2"), at(2), 2, NOW);
    list.read(one("b", "e3"), at(3), 3, NOW);
    assert_eq!(list.came(&one("a", "e1")), None);
    assert_eq!(list.came(&one("x", "e3")), Some(one("b", "e3")), "it was ordered by something else");
    assert_eq!(list.came(&one("x", "e9")), None);
    assert_eq!(list.missing(), (vec![one("a", "e2"), one("b", "e3")], Duration::from_millis(500)));
}

#[test]
fn old_entries_are_published_again() {
    let mut list = List::default();
    list.read(one("a", "e1"), at(1), 1, Duration::ZERO);
    list.read(one("a", "e2"), at(2), 2, FRESH_FOR / 2);
    assert_eq!(list.old(FRESH_FOR), [(one("a", "e1"), at(1), vec![1])]);
    assert_eq!(list.remove(&one("a", "e1")), Removal::Later, "the new one is on its way, or the old one comes back");
    assert_eq!(list.take_back(&one("a", "e1"), vec![1], FRESH_FOR), (vec![1], true));
}
