use super::*;
use crate::access::password_hash::hash_password;
use futures_util::future::join_all;

fn build_rules(main: (&str, &str), lines: Option<&str>) -> AccessRules {
    let dir = tempfile::tempdir().unwrap();
    let users = lines.map(|lines| {
        let file = dir.path().join("users");
        std::fs::write(&file, lines).unwrap();
        users_file::load_users(&file).unwrap()
    });
    AccessRules { user: main.0.to_owned(), password: main.1.into(), users }
}

fn build_credentials<'a>(
    address: &str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    certificate_names: &'a [String],
) -> ClientCredentials<'a> {
    let password = password.map(str::as_bytes);
    ClientCredentials { address: address.parse().unwrap(), user, password, certificate_names }
}

#[tokio::test]
async fn who_shows_what_is_who() {
    let hash = hash_password("one").unwrap();
    let file = format!("bay-1 {hash}\nprobe-7 -\n");
    let both = build_rules(("admin", "s3cret"), Some(&file));
    let check = async |rules: &AccessRules, user, password, certificate: &str, expect| {
        let names = [certificate.to_owned()];
        let access = AccessControl::default();
        let found =
            access.authenticate(rules, build_credentials("10.0.0.1", user, password, &names)).await;
        let found = found.map(|identity| identity.name.to_string()).ok();
        assert_eq!(found.as_deref(), expect, "{user:?} {password:?} {certificate}");
    };
    let open = build_rules(("", ""), None);
    check(&open, None, None, "", Some("")).await;
    check(&open, Some("x"), Some("y"), "", Some("")).await;
    check(&both, None, None, "", None).await;
    check(&both, Some("admin"), Some("s3cret"), "", Some("admin")).await;
    check(&both, Some("admin"), Some("secret"), "", None).await;
    check(&both, Some("admin"), None, "", None).await;
    check(&both, Some("bay-1"), Some("one"), "", Some("bay-1")).await;
    check(&both, Some("bay-1"), Some("two"), "", None).await;
    check(&both, Some("probe-7"), Some(""), "", None).await;
    check(&both, Some("probe-7"), Some("-"), "", None).await;
    check(&both, None, None, "probe-7", Some("probe-7")).await;
    check(&both, Some("probe-7"), None, "probe-7", Some("probe-7")).await;
    check(&both, Some("bay-1"), None, "probe-7", None).await;
    check(&both, Some("bay-1"), Some("one"), "probe-7", Some("bay-1")).await;
    check(&both, None, None, "unknown", None).await;
    let name_only = build_rules(("bay", ""), None);
    check(&name_only, Some("bay"), None, "", Some("bay")).await;
    check(&name_only, Some("bay"), Some("x"), "", Some("bay")).await;
    check(&name_only, Some("bat"), None, "", None).await;
    let password_only = build_rules(("", "s3cret"), None);
    check(&password_only, None, Some("s3cret"), "", Some("")).await;
    check(&password_only, None, Some(""), "", None).await;
    // A file without users admits nobody.
    check(&build_rules(("", ""), Some("")), None, None, "", None).await;
}

#[tokio::test]
async fn new_rules_hold_for_who_is_the_same() {
    let hash = hash_password("one").unwrap();
    let file = format!("bay-1 {hash} publish:a\n");
    let check = async |old: &AccessRules, who: (&str, &str), new: &AccessRules, expect| {
        let shown = build_credentials("10.0.0.1", Some(who.0), Some(who.1), &[]);
        let identity = AccessControl::default().authenticate(old, shown).await.unwrap();
        assert_eq!(new.is_still_valid(&identity), expect, "{who:?} {new:?}");
    };
    let (open, main) = (build_rules(("", ""), None), build_rules(("admin", "s3cret"), Some(&file)));
    check(&open, ("", ""), &open, true).await;
    check(&open, ("", ""), &main, false).await;
    check(&main, ("admin", "s3cret"), &main, true).await;
    check(&main, ("admin", "s3cret"), &build_rules(("admin", "other"), None), false).await;
    check(&main, ("admin", "s3cret"), &open, false).await;
    check(&main, ("bay-1", "one"), &build_rules(("", ""), Some(&file)), true).await;
    let wider = format!("bay-1 {hash} publish:b\n");
    check(&main, ("bay-1", "one"), &build_rules(("", ""), Some(&wider)), false).await;
    check(&main, ("bay-1", "one"), &build_rules(("", ""), Some("")), false).await;
}

#[tokio::test]
async fn a_guesser_waits_and_disturbs_nobody_else() {
    let hash = hash_password("one").unwrap();
    let rules = build_rules(("", ""), Some(&format!("bay-1 {hash}\nbay-2 {hash}\n")));
    let access = AccessControl::default();
    let try_as = async |address: &str, user: &str, password: &str| {
        let shown = build_credentials(address, Some(user), Some(password), &[]);
        access.authenticate(&rules, shown).await.map(|_| ())
    };
    assert_eq!(try_as("10.0.0.1", "bay-2", "one").await, Ok(()));
    for guess in 0..4 {
        let refused = try_as("10.0.0.1", "bay-1", &guess.to_string()).await;
        assert_eq!(refused, Err(AccessRefusal::BadCredentials), "{guess}");
    }
    // Not even the right password is checked now; from another address it is.
    let slowed = Err(AccessRefusal::TooManyAttempts);
    assert_eq!(try_as("10.0.0.1", "bay-1", "one").await, slowed);
    assert_eq!(try_as("10.0.0.2", "bay-1", "one").await, Ok(()));
    assert_eq!(access.refused_attempts(), 1);
    // Guessing one user after the other slows the address, but not its known users.
    for user in 0..20 {
        let _ = try_as("10.0.0.1", &format!("user-{user}"), "x").await;
    }
    assert_eq!(try_as("10.0.0.1", "user-99", "x").await, slowed);
    assert_eq!(try_as("10.0.0.1", "bay-2", "one").await, Ok(()));
    assert_eq!(try_as("10.0.0.2", "bay-2", "one").await, Ok(()));
}

#[tokio::test]
async fn guesses_at_the_same_time_are_slowed_like_one_after_the_other() {
    let hash = hash_password("one").unwrap();
    let rules = build_rules(("", ""), Some(&format!("bay-1 {hash}\n")));
    let access = AccessControl::default();
    let passwords: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    let guesses = passwords.iter().map(|password| {
        access
            .authenticate(&rules, build_credentials("10.0.0.1", Some("bay-1"), Some(password), &[]))
    });
    let found = join_all(guesses).await;
    let is_looked_at = |one: &&_| matches!(one, Err(AccessRefusal::BadCredentials));
    let looked_at = found.iter().filter(is_looked_at).count();
    assert!(looked_at <= GUESSES_OF_USER as usize + VERIFICATIONS_MAX, "{looked_at}");
}

#[tokio::test]
async fn one_address_does_not_take_all_places_of_those_that_wait() {
    let hash = hash_password("one").unwrap();
    let users: String = (0..=WAITING_MAX).map(|i| format!("bay-{i} {hash}\n")).collect();
    let rules = build_rules(("", ""), Some(&users));
    let access = AccessControl::default();
    let names: Vec<String> = (0..WAITING_MAX).map(|i| format!("bay-{i}")).collect();
    let of_one = names.iter().map(|name| {
        access.authenticate(&rules, build_credentials("10.0.0.1", Some(name), Some("x"), &[]))
    });
    let other =
        access.authenticate(&rules, build_credentials("10.0.0.2", Some("bay-0"), Some("one"), &[]));
    let (found, other) = tokio::join!(join_all(of_one), other);
    let busy = found.iter().filter(|one| matches!(one, Err(AccessRefusal::Busy))).count();
    assert_eq!(busy, WAITING_MAX - WAITING_OF_ADDRESS_MAX);
    assert!(other.is_ok(), "{other:?}");
    assert!(access.waiting.lock().unwrap().by_address.is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_verified_once_until_the_users_are_others() {
    let hash = hash_password("new").unwrap();
    let rules = |hash: &str| build_rules(("admin", "s3cret"), Some(&format!("bay-1 {hash}\n")));
    let (before, after) = (rules(&hash_password("old").unwrap()), rules(&hash));
    let access = AccessControl::default();
    let shown = build_credentials("10.0.0.1", Some("bay-1"), Some("new"), &[]);
    let began = Instant::now();
    assert!(access.authenticate(&before, shown).await.is_err());
    let once = began.elapsed();
    let began = Instant::now();
    for _ in 0..10_000 {
        assert!(access.authenticate(&before, shown).await.is_err());
    }
    assert!(began.elapsed() < 1000 * once, "{:?} {once:?}", began.elapsed());
    assert!(access.authenticate(&after, shown).await.is_ok());
}

#[tokio::test]
async fn a_guesser_does_not_keep_its_neighbour_out() {
    let hash = hash_password("one").unwrap();
    for (main, file) in [(("", ""), format!("bay-1 {hash}\n")), (("bay-1", "one"), String::new())] {
        let rules = build_rules(main, Some(&file));
        let access = AccessControl::default();
        let try_with = async |password: &str| {
            let shown = build_credentials("10.0.0.1", Some("bay-1"), Some(password), &[]);
            access.authenticate(&rules, shown).await.map(|_| ())
        };
        assert_eq!(try_with("one").await, Ok(()));
        for guess in 0..4 {
            assert!(try_with(&guess.to_string()).await.is_err());
        }
        let slowed = Err(AccessRefusal::TooManyAttempts);
        assert_eq!(try_with("one").await, Ok(()), "{main:?}");
        // A guesser cannot use it to avoid the wait.
        assert_eq!(try_with("one").await, slowed);
        assert_eq!(try_with("two").await, slowed);
    }
}

#[tokio::test]
async fn a_guesser_of_other_users_does_not_slow_the_main_user() {
    let rules = build_rules(("main", "one"), None);
    let access = AccessControl::default();
    let try_as = async |user: &str, password: &str| {
        let shown = build_credentials("10.0.0.1", Some(user), Some(password), &[]);
        access.authenticate(&rules, shown).await.map(|_| ())
    };
    assert_eq!(try_as("main", "one").await, Ok(()));
    for user in 0..=GUESSES_OF_ADDRESS {
        let _ = try_as(&format!("user-{user}"), "x").await;
    }
    assert_eq!(try_as("user-99", "x").await, Err(AccessRefusal::TooManyAttempts));
    for _ in 0..3 {
        assert_eq!(try_as("main", "one").await, Ok(()));
    }
}

#[tokio::test]
async fn an_outdated_password_is_refused_and_slows_nobody() {
    let hash = hash_password("new").unwrap();
    let rules = build_rules(("", ""), Some(&format!("bay-1 {hash}\n")));
    let access = AccessControl::default();
    for _ in 0..30 {
        let refused = access
            .authenticate(&rules, build_credentials("10.0.0.1", Some("bay-1"), Some("old"), &[]))
            .await;
        assert_eq!(refused.err(), Some(AccessRefusal::BadCredentials));
    }
    let admitted = access
        .authenticate(&rules, build_credentials("10.0.0.1", Some("bay-1"), Some("new"), &[]))
        .await;
    assert!(admitted.is_ok());
}

#[tokio::test]
async fn ten_thousand_reconnections_cost_one_verification() {
    let hash = hash_password("one").unwrap();
    let rules = build_rules(("", ""), Some(&format!("bay-1 {hash}\n")));
    let access = AccessControl::default();
    let shown = build_credentials("10.0.0.1", Some("bay-1"), Some("one"), &[]);
    let began = Instant::now();
    access.authenticate(&rules, shown).await.unwrap();
    let once = began.elapsed();
    let began = Instant::now();
    for _ in 0..10_000 {
        access.authenticate(&rules, shown).await.unwrap();
    }
    // Verifying each time would take ten thousand times as long.
    assert!(began.elapsed() < 1000 * once, "{:?} {once:?}", began.elapsed());
}
