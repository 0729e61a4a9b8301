//! The data of a call's store: memory accounting, log, state, HTTP, and WASI without files, sockets, arguments or
//! environment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::log::EventLog;
use super::memory::MemoryLimiter;
use super::stdio::Stdio;
use crate::grants::granted::Grants;
use crate::http::call::HttpCall;
use crate::recording::answers::HostAnswers;
use trunkline_config::Limits;
use trunkline_event::{Emission, PluginName};
use trunkline_state::KeySpace;

/// Largest number of handles that a guest holds at a time: streams, requests, stores.
const HANDLES_MAX: usize = 1000;
/// Largest number of random bytes in one host call, because a host call is not interrupted.
const RANDOM_MAX_BYTES: u64 = 1 << 20;
/// Bytes of the records around the data of an emission.
const EMISSION_OVERHEAD_BYTES: u64 = 256;

/// A guest left more bytes with the host, by several host calls, than its answer may hold.
#[derive(Debug, thiserror::Error)]
#[error("the plugin passed more data to the host than limits.output allows")]
pub(crate) struct OverBudget;

/// Bytes that a guest may give the host: its output and the records around the emissions.
pub(crate) fn budget_bytes(limits: &Limits) -> usize {
    let overhead = u64::from(limits.emissions_max) * EMISSION_OVERHEAD_BYTES;
    usize::try_from(limits.output_max_bytes.saturating_add(overhead)).unwrap_or(usize::MAX)
}

/// Settings of one call.
pub(crate) struct CallContext<'call> {
    pub(crate) plugin: &'call PluginName,
    /// Id of the event.
    pub(crate) event: &'call str,
    pub(crate) tenant: Option<&'call str>,
    pub(crate) limits: &'call Limits,
    pub(crate) ends: Instant,
    pub(crate) grants: Arc<Grants>,
    pub(crate) answers: HostAnswers,
}

/// The data of a store.
pub struct CallData {
    pub(crate) memory: MemoryLimiter,
    pub(crate) log: EventLog,
    pub(crate) grants: Arc<Grants>,
    pub(crate) table: ResourceTable,
    /// Emissions so far, where a host call makes each emission and not the answer.
    pub(crate) sent: Vec<Emission>,
    /// Bytes that the guest may still give the host in that way.
    pub(crate) left_bytes: usize,
    /// Bytes of the values that open compare-and-sets hold.
    pub(crate) cas_bytes: usize,
    pub(crate) answers: HostAnswers,
    /// Tenant of the event; `None` for a plugin without state.
    tenant: Option<String>,
    limit: Duration,
    ends: Instant,
    /// Made on first use, and boxed, because most calls do not use it.
    http: Option<Box<HttpCall>>,
    /// Made on first use, and boxed, because most calls do not use it.
    space: Option<Box<KeySpace>>,
    /// Made on first use: its random generators cost more than the whole call of a plugin that needs none of them.
    wasi: Option<WasiCtx>,
    /// Made on first use.
    stdio: Option<Stdio>,
}

impl CallData {
    pub(crate) fn new(context: CallContext<'_>) -> Self {
        let CallContext { plugin, event, tenant, limits, ends, grants, answers } = context;
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            memory: MemoryLimiter::new(limits.memory_max_bytes),
            log: EventLog::new(plugin.clone(), event, limits.log_max_bytes, grants.redactor.clone()),
            table,
            sent: Vec::new(),
            left_bytes: budget_bytes(limits),
            cas_bytes: 0,
            answers,
            tenant: tenant.filter(|_| grants.kv.is_some()).map(str::to_owned),
            limit: limits.timeout,
            ends,
            http: None,
            space: None,
            grants,
            wasi: None,
            stdio: None,
        }
    }

    /// The end of the guest's stderr, which holds the text of a panic.
    pub(crate) fn stderr_text(&self) -> String {
        let text = self.stdio.as_ref().map(|stdio| stdio.err.text()).unwrap_or_default();
        self.grants.redactor.clean_end(&text).into_owned()
    }

    /// The guest's stdout and stderr.
    pub(crate) fn stdio(&mut self) -> &mut Stdio {
        self.stdio.get_or_insert_default()
    }

    /// The state of the event's tenant; `None` without the grant.
    pub(crate) fn space(&mut self) -> Option<&mut KeySpace> {
        if self.space.is_none() {
            let granted = self.grants.kv.as_ref()?;
            let space = granted.state.as_ref()?.key_space(&granted.plugin, self.tenant.as_deref(), granted.quota);
            self.space = Some(Box::new(space));
        }
        self.space.as_deref_mut()
    }

    /// The state, if the call used it.
    pub(crate) fn used_space(&mut self) -> Option<&mut KeySpace> {
        self.space.as_deref_mut()
    }

    /// Writes stdout and stderr to the log, and reports how many lines were over the budget.
    pub(crate) fn finish_log(&mut self) {
        let stdio = self.stdio.iter().flat_map(|stdio| [("info", &stdio.out), ("warn", &stdio.err)]);
        for (level, tail) in stdio {
            for line in self.grants.redactor.clean_end(&tail.text()).lines() {
                self.log.write(level, "stdio", line);
            }
        }
        self.log.report_dropped();
    }
}

impl WasiView for CallData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut wasi = WasiCtx::builder();
            let Stdio { out, err } = self.stdio.get_or_insert_default();
            wasi.stdout(out.clone()).stderr(err.clone()).max_random_size(RANDOM_MAX_BYTES);
            self.answers.configure(&mut wasi);
            wasi.build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for CallData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Self { http, grants, answers, log, ends, limit, table, .. } = self;
        let call = http.get_or_insert_with(|| {
            Box::new(HttpCall::new(grants.http.clone(), answers.clone(), log.event(), *ends, *limit))
        });
        WasiHttpCtxView { ctx: &mut call.context, table, hooks: &mut call.hooks }
    }
}
