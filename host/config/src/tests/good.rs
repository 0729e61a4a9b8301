//! Good files: defaults, and derived queues.

use super::*;

#[test]
fn the_smallest_file_has_all_defaults() {
    let config = config(SMALLEST);
    assert!(matches!(config.broker, BrokerChoice::Embedded));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8000");
    assert_eq!((config.http.tokens.len(), config.http.max_body_bytes), (0, 1024 * 1024));
    assert_eq!(config.state_dir, Path::new("/etc/trunkline/.trunkline"));
    assert_eq!(config.default_exchange.as_str(), "events");
    let events = &config.topology.exchanges["events"];
    assert_eq!((events.kind, events.owned, events.codec), (ExchangeKind::Topic, true, Codec::Raw));
    assert_eq!(config.topology.mode, TopologyMode::Declare);
    assert_eq!(config.topology.bindings, [key("events", "callback-tasks", "comms.call.ended")]);
    let plugin = &config.plugins["callback-task"];
    assert_eq!(plugin.file, Path::new("/etc/trunkline/plugins/callback-task.wasm"));
    assert_eq!(plugin.limits, Limits::default());
    assert!(config.routes.contains_key(&RouteName::new("callback-tasks").expect("a name")));
}

#[test]
fn the_smallest_file_derives_a_queue_with_a_safety_net() {
    let config = config_with(SMALLEST, &[("RABBITMQ_HOST", "localhost")]);
    assert_eq!(queue_names(&config), ["callback-tasks", "callback-tasks.dlq"], "all that a route costs the broker");
    let main = queue(&config, "callback-tasks");
    assert_eq!((main.kind, main.delivery_limit, main.prefetch), (Some(QueueKind::Quorum), Some(20), 200));
    assert_eq!((main.ttl, main.max_length, main.overflow), (None, None, Overflow::DropHead));
    assert_eq!(main.dead_letter, Some(to_queue("callback-tasks.dlq")));
    let dead = queue(&config, "callback-tasks.dlq");
    assert_eq!((dead.kind, dead.ownership), (Some(QueueKind::Quorum), QueueOwnership::Daemon));
    assert_eq!((dead.ttl, dead.delivery_limit, &dead.dead_letter), (None, None, &None));

    let route = route(&config, "callback-tasks");
    assert_eq!((route.concurrency, route.hops_max, route.body_max_bytes), (16, 16, 1024 * 1024));
    assert_eq!(route.dead_letter, to_queue("callback-tasks.dlq"));
    let emit = Emit {
        exchange: config.default_exchange.clone(),
        key: "{type}".to_owned(),
        types: None,
        unroutable: Unroutable::Accept,
        reply: false,
    };
    assert_eq!(route.emit, emit);
    let delays = route.retry.steps.iter().map(|step| step.delay.as_secs()).collect::<Vec<_>>();
    assert_eq!((route.retry.max, delays), (5, vec![1, 2, 4, 8, 16]));
}

#[test]
fn the_sample_at_the_root_loads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../routes.toml");
    let loaded = load(&Sources { file, ..sources("") }).unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    assert!(loaded.warnings.is_empty(), "{}", render(&loaded.warnings, false));
    let config = loaded.config;
    let plugins = config.plugins.keys().map(PluginName::as_str).collect::<Vec<_>>();
    assert_eq!(plugins, ["callback-task", "campaign-optimizer", "grading-dispatcher", "sentiment-alert"]);
    assert!(config.plugins["callback-task"].file.ends_with("target/plugins/callback-task.wasm"));
    let table = config.routes.iter().map(|(name, route)| {
        (
            name.as_str(),
            route.queue.as_str(),
            route.emit.exchange.as_str(),
            route.emit.key.as_str(),
            route.emit.unroutable,
        )
    });
    let voice = |name| (name, name, "ocelot.events", "{type}", Unroutable::Accept);
    let grading = |name, queue| (name, queue, "ai_grading", "result", Unroutable::Retry);
    assert_eq!(
        table.collect::<Vec<_>>(),
        [
            voice("callback-tasks"),
            voice("campaign-optimizer"),
            grading("grading-speaking", "speaking"),
            grading("grading-writing", "writing"),
            voice("sentiment-alerts"),
        ]
    );
    for (name, codec, prefetch) in [
        ("callback-tasks", Codec::Ocelot, 200),
        ("callback-tasks.dlq", Codec::Ocelot, 200),
        ("writing", Codec::Raw, 1),
        ("speaking", Codec::Raw, 1),
        ("result", Codec::Raw, 200),
    ] {
        assert_eq!((queue(&config, name).codec, queue(&config, name).prefetch), (codec, prefetch), "{name}");
    }
    for bound in ["writing", "speaking", "result"] {
        assert!(config.topology.bindings.contains(&key("ai_grading", bound, bound)), "{bound}");
    }
}

#[test]
fn dead_letters_by_queue_and_by_exchange() {
    let config = config(
        "
        [exchanges.dlx]
        type = \"direct\"
        [queues.agent]
        owned = true
        dead-letter = { exchange = \"dlx\", queue = \"agent.dead\" }
        [queues.web]
        dead-letter = \"errors\"
        [queues.errors]
        ttl = \"24h\"
        [queues.kept]
        owned = true
        [queues.\"kept.dlq\"]
        type = \"classic\"
        [defaults]
        ttl = \"1m\"
        [routes.again]
        queue = \"errors\"
        plugin = \"p\"
    ",
    );
    let dlx = DeadLetter { exchange: ExchangeName::new("dlx").expect("a name"), ..to_queue("agent.dead") };
    assert_eq!(queue(&config, "agent").dead_letter, Some(dlx));
    assert!(config.topology.bindings.contains(&key("dlx", "agent.dead", "agent.dead")));
    assert_eq!((queue(&config, "agent.dead").ttl, &queue(&config, "agent.dead").dead_letter), (None, &None));
    assert_eq!(queue(&config, "web").dead_letter, Some(to_queue("errors")));
    // A consumed queue needs a dead-letter queue of its own.
    assert_eq!(queue(&config, "errors").dead_letter, Some(to_queue("errors.dlq")));
    assert_eq!(queue(&config, "errors").ttl, Some(Duration::from_secs(24 * 3600)));
    let kept = queue(&config, "kept.dlq");
    assert_eq!((kept.kind, kept.ttl, kept.delivery_limit), (Some(QueueKind::Classic), None, None));
    assert!(kept.dead_letter.is_none() && !queue_names(&config).contains(&"kept.dlq.dlq"));
}

#[test]
fn retry_steps_are_capped_and_cost_no_queue() {
    for (retry, expected) in [
        ("{ max = 0 }", vec![]),
        ("{ max = 3, delay = \"30s\" }", vec![30_000, 60_000, 120_000]),
        ("{ max = 4, delay = \"1s\", multiplier = 10, max-delay = \"50s\" }", vec![1000, 10_000, 50_000, 50_000]),
        ("{ max = 3, delay = \"100ms\", multiplier = 1.5 }", vec![100, 150, 225]),
        ("{ max = 2, multiplier = 1 }", vec![1000, 1000]),
    ] {
        let source = format!("{SMALLEST}retry = {retry}\n");
        for broker in [&[][..], &[("RABBITMQ_HOST", "localhost")]] {
            let config = config_with(&source, broker);
            let steps = &route(&config, "callback-tasks").retry.steps;
            assert_eq!(steps.iter().map(|step| step.delay.as_millis()).collect::<Vec<_>>(), expected, "{retry}");
            assert!(steps.iter().all(|step| step.spread == step.delay / 8), "{steps:?}");
            assert_eq!(queue_names(&config), ["callback-tasks", "callback-tasks.dlq"], "{retry}");
        }
        let plain = config(&format!("{SMALLEST}retry = {}\n", retry.replace(" }", ", jitter = false }")));
        assert!(route(&plain, "callback-tasks").retry.steps.iter().all(|step| step.spread.is_zero()), "{retry}");
    }
}

#[test]
fn an_ordered_route_has_a_waiting_list_and_consumes_alone() {
    let source = format!("{SMALLEST}order-by = \"data.call_id\"\nretry = {{ max = 3, delay = \"2s\" }}\n");
    let config = config_with(&source, &[("RABBITMQ_HOST", "localhost")]);
    let route = route(&config, "callback-tasks");
    assert_eq!(route.order_by, Some(OrderBy::Data(vec!["call_id".to_owned()])));
    assert!(route.retry.steps.iter().all(|step| step.spread.is_zero()));
    let names = ["callback-tasks", "callback-tasks.dlq", "callback-tasks.waiting"];
    assert_eq!(queue_names(&config), names);
    assert_eq!(route.waiting.as_ref().map(QueueName::as_str), Some("callback-tasks.waiting"));
    for name in ["callback-tasks", "callback-tasks.waiting"] {
        assert!(queue(&config, name).single_consumer, "{name}");
    }
}

#[test]
fn flow_keys_and_priorities() {
    let source = format!(
        "{SMALLEST}dedupe = \"10m\"\nrate = \"600/m\"\ncircuit = {{ failures = 3 }}\n[queues.q]\nmax-priority = 10\n"
    );
    let config = config(&source);
    let route = route(&config, "callback-tasks");
    let minute = Duration::from_secs(60);
    assert_eq!(route.dedupe, Some(DedupeWindow { window: 10 * minute, max: 1_000_000 }));
    assert_eq!(route.rate, Some(Rate { events: 600, per: minute }));
    let circuit = CircuitBreaker { failures: 3, window: minute, pause: Duration::from_secs(30) };
    assert_eq!(route.circuit, Some(circuit));
    assert_eq!((queue(&config, "q").max_priority, queue(&config, "q").kind), (Some(10), None));
}

#[test]
fn bindings_of_every_form() {
    let config = config(
        "
        [exchanges.h]
        type = \"headers\"
        codec = \"cloudevents\"
        [exchanges.f]
        type = \"fanout\"
        owned = false
        alternate = \"events\"
        [queues.a]
        bind = [\"k1\", \"k2\"]
        [queues.b]
        owned = true
        bind = { exchange = \"h\", headers = { format = \"pdf\", pages = 2, draft = false }, match = \"any\" }
        [queues.c]
        bind = [{ exchange = \"f\" }, { keys = [\"x\", \"y\"] }, \"z\"]
        [queues.d]
        codec = \"ocelot\"
    ",
    );
    let of = |name: &str| {
        let found = config.topology.bindings.iter().filter(|binding| binding.queue.as_str() == name).cloned();
        found.collect::<Vec<_>>()
    };
    assert_eq!(of("a"), [key("events", "a", "k1"), key("events", "a", "k2")]);
    assert_eq!(of("c"), [key("f", "c", ""), key("events", "c", "x"), key("events", "c", "y"), key("events", "c", "z")]);
    assert_eq!(of("d"), []);
    let values = [
        ("format", HeaderValue::Text("pdf".to_owned())),
        ("pages", HeaderValue::Int(2)),
        ("draft", HeaderValue::Bool(false)),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(of("b")[0].matches, Match::Headers { all: false, values });
    for (name, codec) in
        [("a", Codec::Raw), ("b", Codec::Cloudevents), ("b.dlq", Codec::Cloudevents), ("d", Codec::Ocelot)]
    {
        assert_eq!(queue(&config, name).codec, codec, "{name}");
    }
    let fanout = &config.topology.exchanges["f"];
    assert_eq!((fanout.owned, fanout.alternate.as_ref()), (false, Some(&config.default_exchange)));
}

#[test]
fn plugins_limits_and_event_types() {
    let digest = "AB".repeat(32);
    let config = config_with(
        &format!(
            "
        plugin-dir = \"/opt/plugins\"
        [defaults]
        limits = {{ timeout = \"3s\" }}
        memory = \"32MiB\"
        emit = {{ exchange = \"\", key = \"all\", reply = true }}
        [plugins.p]
        file = \"p-1.2.wasm\"
        digest = \"sha256:{digest}\"
        config = {{ greeting = \"hello ${{WHO}}\" }}
        limits = {{ memory = \"128MiB\", emissions = 3, output = \"1KiB\", log = \"0B\" }}
        [routes.one]
        from = [\"a\", \"b\"]
        plugin = \"p\"
        max-body = \"2MiB\"
        emit = {{ key = \"out.{{type}}\", types = [\"x\", \"y\"] }}
        [routes.two]
        from = \"c\"
        plugin = \"q\"
        emit = {{ unroutable = \"dead-letter\", reply = false }}
        [event-types.\"voice.call\"]
        key = \"voice.calls\"
        priority = 9
        description = \"a call\"
        "
        ),
        &[("WHO", "world")],
    );
    let (p, q) = (&config.plugins["p"], &config.plugins["q"]);
    assert_eq!(
        (p.file.as_path(), p.digest.clone()),
        (Path::new("/etc/trunkline/p-1.2.wasm"), Some(digest.to_lowercase()))
    );
    assert_eq!(p.config["greeting"], "hello world");
    let timeout = Duration::from_secs(3);
    let memory_max_bytes = 128 * 1024 * 1024;
    let base = Limits { memory_max_bytes, timeout, ..Limits::default() };
    let own = Limits { emissions_max: 3, output_max_bytes: 1024, log_max_bytes: 0, ..base };
    assert_eq!(p.limits, own);
    assert_eq!(q.file, Path::new("/opt/plugins/q.wasm"));
    assert_eq!(q.limits, Limits { memory_max_bytes: 32 * 1024 * 1024, timeout, ..Limits::default() });
    let (one, two) = (route(&config, "one"), route(&config, "two"));
    assert_eq!((one.emit.key.as_str(), one.emit.unroutable), ("out.{type}", Unroutable::Retry));
    assert_eq!((one.emit.types.as_deref(), one.body_max_bytes), (Some(&["x".to_owned(), "y".to_owned()][..]), 2 << 20));
    assert!(one.emit.exchange.is_default());
    assert!(one.emit.reply && !two.emit.reply);
    assert_eq!((two.emit.key.as_str(), two.emit.unroutable), ("all", Unroutable::DeadLetter));
    let call = &config.event_types["voice.call"];
    assert_eq!((call.key.as_ref().map(RoutingKey::as_str), call.priority), (Some("voice.calls"), Some(9)));
}

/// Tokens of the listener, tokens of hooks and secrets of plugins are read alike.
#[test]
fn secrets_are_trimmed_and_their_files_are_watched() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    for file in ["listener", "hook", "plugin"] {
        std::fs::write(at(file), format!("\u{feff} the-token-of-{file}\n")).expect("a file");
    }
    let source = "
        [http]
        tokens = [{ file = \"listener\" }, { env = \"T\" }, \"${T}\"]
        [hooks.one]
        token = { file = \"hook\" }
        [hooks.two]
        token = { env = \"T\" }
        [plugins.p]
        secrets = { one = { file = \"plugin\" }, two = { env = \"T\" } }
        [routes.r]
        from = \"a\"
        plugin = \"p\"
    ";
    let config = loaded(source, |sources| {
        sources.file = at("routes.toml");
        sources.environment.insert("T".to_owned(), "\u{feff}\ta-token-in-a-variable \r\n".to_owned());
    })
    .config;
    let variable = "a-token-in-a-variable";
    let tokens = config.http.tokens.iter().map(Secret::expose).collect::<Vec<_>>();
    assert_eq!(tokens, ["the-token-of-listener", variable, variable]);
    let hook = |name: &str| config.hooks[name].tokens.first().map(Secret::expose);
    assert_eq!((hook("one"), hook("two")), (Some("the-token-of-hook"), Some(variable)));
    let secrets = &config.plugins[&PluginName::new("p").expect("a name")].secrets;
    let secret = |name: &str| secrets[name].as_ref().map(Secret::expose).expect("it is set");
    assert_eq!((secret("one"), secret("two")), ("the-token-of-plugin", variable));
    for file in ["listener", "hook", "plugin"] {
        assert!(config.files.contains(&at(file)), "{file} is watched: {:?}", config.files);
    }
}

#[test]
fn hooks_and_event_types_have_defaults() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("s")).expect("a directory");
    std::fs::write(at("s/part.json"), "{\"type\": \"string\"}").expect("a file");
    std::fs::write(at("s/t.json"), "{\"properties\": {\"a\": {\"$ref\": \"part.json\"}}}").expect("a file");
    std::fs::write(at("token"), "a-token-in-a-file\n").expect("a file");
    let source = "
        [http]
        dedupe = \"1h\"
        [broker]
        url = \"amqp://u:${P}@rabbit\"
        management-url = \"http://rabbit:15672\"
        [event-types.t]
        schema = \"s/t.json\"
        priority = 3
        [hooks.plain]
        [hooks.full]
        path = \"/hooks/a/b\"
        exchange = \"\"
        key = \"{data.queue}\"
        codec = \"ocelot\"
        token = { file = \"token\" }
        status = 204
    ";
    let config = loaded(source, |sources| {
        sources.file = at("routes.toml");
        sources.environment.insert("P".to_owned(), "hunter2".to_owned());
    })
    .config;
    assert_eq!((config.http.dedupe.window, config.http.dedupe.max), (Duration::from_secs(3600), 1_000_000));
    let known = &config.event_types["t"];
    assert!(known.schema.as_ref().is_some_and(|schema| schema.check(b"{\"a\": 1}").is_err()));
    for file in ["s/t.json", "s/part.json", "token"] {
        assert!(config.files.contains(&at(file)), "{file} is watched: {:?}", config.files);
    }
    let plain = &config.hooks["plain"];
    assert_eq!((plain.path.as_str(), plain.exchange.as_str(), plain.status), ("/hooks/plain", "events", 202));
    assert_eq!((plain.codec, &plain.key, plain.tokens.len(), &plain.schema), (Codec::Raw, &None, 0, &None));
    let full = &config.hooks["full"];
    assert_eq!((full.path.as_str(), full.exchange.is_default(), full.status), ("/hooks/a/b", true, 204));
    assert_eq!(full.tokens.iter().map(Secret::expose).collect::<Vec<_>>(), ["a-token-in-a-file"]);
    let BrokerChoice::Amqp(amqp) = &config.broker else { panic!("{:?}", config.broker) };
    let management = amqp.management.as_ref().expect("an address");
    assert_eq!((management.url.as_str(), management.user.as_str()), ("http://rabbit:15672", "u"));
    assert_eq!(management.password.expose(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}
