/* SPDX-License-Identifier: Apache-2.0 */
/* The rows. Defaults stand here as text and pass through the same parser as a user's, so a default
 * out of its own range cannot be built: knit_settings_init() would refuse it and every test with
 * it. */
#include "server/config/setting.h"

#include <string.h>

#include "server/config/collector_url.h"

#define AT(member) offsetof(struct knit_settings, member)
#define KIB        UINT64_C(1024)
#define MIB        (1024 * KIB)
#define GIB        (1024 * MIB)
#define DAY_S      UINT64_C(86400)

/* A timeout of zero switches it off, so the range of every optional one starts there. */
#define OFF 0

static const char *const balancers[] = {"roundRobin", "firstIdle", "randomLane",
    "firstIdleOrRandom", "leastLoaded", "robinRound", NULL};
static const char *const positions[] = {"none", "first", "last", NULL};
static const char *const scopes[] = {"worker", "pool", NULL};
static const char *const arena_modes[] = {"growable", "fixed", NULL};
static const char *const clients[] = {"none", "optional", "required", NULL};
static const char *const permissions[] = {"strict", "custom", "unsafe", NULL};
static const char *const log_formats[] = {"logfmt", "json", NULL}; /* enum knit_log_format */
static const char *const levels[] = {"error", "warning", "info", "debug", NULL};

const struct knit_setting knit_setting_table[] = {
    {"server", "listen", NULL, KNIT_SETTING_LIST, AT(listen), 0, 16, NULL, "127.0.0.1:5648",
        "ADDRESS:PORT",
        "TCP address to listen on, [ADDRESS]:PORT for IPv6; port 0 takes a free one; the word none "
        "switches TCP off. May be given several times. Left out in a systemd unit with a "
        "RuntimeDirectory, none."},
    {"server", "listen_tls", NULL, KNIT_SETTING_LIST, AT(listen_tls), 0, 16, NULL, NULL,
        "ADDRESS:PORT",
        "TCP address to listen on with TLS, as in listen; 5649 is the usual port. May be given "
        "several times. Needs tls_certificate and tls_key."},
    {"server", "proxy_from", NULL, KNIT_SETTING_LIST, AT(proxy_from), 0, KNIT_PROXIES_MAX, NULL,
        NULL, "NETWORK...",
        "Address, or network as in 10.0.0.0/8, of proxies that say for whom they connect, by "
        "version 2 of the PROXY protocol: a connection by TCP from there begins with that, or it "
        "is closed. May be given several times."},
    {"server", "tls_certificate", NULL, KNIT_SETTING_PATH_LIST, AT(tls_certificate), 0, 32, NULL,
        NULL, "PATH...",
        "File with the certificate that is shown to clients, in PEM; behind it those between it "
        "and its authority. Of several a client gets one that is for the name which it calls, or "
        "else the first."},
    {"server", "tls_key", NULL, KNIT_SETTING_PATH_LIST, AT(tls_key), 0, 32, NULL, NULL, "PATH...",
        "File with its private key, in PEM and not encrypted; as many as there are certificates, "
        "in "
        "the same order."},
    {"server", "tls_client", NULL, KNIT_SETTING_CHOICE, AT(tls_client), 0, 0, clients, "none",
        "NAME",
        "Whether clients show a certificate. none: they are not asked for one. optional: one that "
        "is shown must be good. required: none is served without. It names its client by the first "
        "URI among its alternative names, or else the first DNS name, and is refused without "
        "either."},
    {"server", "tls_client_ca", NULL, KNIT_SETTING_PATH, AT(tls_client_ca), 0, 0, NULL, NULL,
        "PATH", "File with the authorities whose certificates of clients are taken, in PEM."},
    {"server", "tls_crl", NULL, KNIT_SETTING_PATH, AT(tls_crl), 0, 0, NULL, NULL, "PATH",
        "File with lists of the certificates that these authorities have revoked, in PEM. Given, "
        "each authority needs one that is valid, or its certificates are refused."},
    {"server", "tls_ticket_keys", NULL, KNIT_SETTING_PATH, AT(tls_ticket_keys), 0, 0, NULL, NULL,
        "PATH",
        "File with one to three keys of tickets, 80 random bytes each, by which clients resume "
        "their sessions: tickets are made with the first and taken with each. Left out, they are "
        "random, and change every 12 hours."},
    {"server", "socket", NULL, KNIT_SETTING_PATH, AT(socket), 0, 0, NULL, NULL, "PATH",
        "Unix socket to listen on; the word none switches it off. Left out, it is "
        "$RUNTIME_DIRECTORY/knitting.sock where systemd has set that, else "
        "/run/knitting/knitting.sock for root and $XDG_RUNTIME_DIR/knitting/knitting.sock for "
        "others."},
    {"server", "socket_mode", NULL, KNIT_SETTING_MODE, AT(socket_mode), 0, 0777, NULL, "0660",
        "OCTAL", "Who may connect to the unix socket, as a file mode."},
    {"server", "socket_group", NULL, KNIT_SETTING_TEXT, AT(socket_group), 0, 0, NULL, NULL, "GROUP",
        "Group that the unix socket belongs to; left out, the daemon's own."},
    {"server", "admin", NULL, KNIT_SETTING_TEXT, AT(admin), 0, 0, NULL, NULL, "ADDRESS:PORT",
        "Where the admin face listens, which shows by HTTP what the daemon does: an address, the "
        "absolute path of a unix socket with socket_mode and socket_group, or the word none. Left "
        "out, 127.0.0.1:5650 where every user of the machine may call by TCP, "
        "$RUNTIME_DIRECTORY/admin.sock in a systemd unit that has its socket alone, and none with "
        "policy or tokens; if that is in use, the daemon starts without."},
    {"server", "admin_hosts", NULL, KNIT_SETTING_LIST, AT(admin_hosts), 0, 64, NULL, NULL,
        "NAME...",
        "Names by which browsers and others may call the admin face, besides localhost and "
        "numbers of addresses."},
    {"server", "attach_users", NULL, KNIT_SETTING_LIST, AT(attach_users), 0, 64, NULL, NULL,
        "USER...",
        "Users who may call through shared memory, besides root and the daemon's own user. "
        "Left out, as attach_groups is, all who may connect to the unix socket may."},
    {"server", "attach_groups", NULL, KNIT_SETTING_LIST, AT(attach_groups), 0, 64, NULL, NULL,
        "GROUP...", "Groups whose members may call through shared memory, as attach_users says."},
    {"server", "policy", NULL, KNIT_SETTING_PATH, AT(policy), 0, 0, NULL, NULL, "FILE",
        "File that says who may call which task; who is not in it may do nothing. Read again by "
        "SIGHUP and knit reload. Left out, whoever reaches the daemon may run every task. Not with "
        "attach_users or attach_groups, whose place it takes."},
    {"server", "allow_remote_without_authentication", NULL, KNIT_SETTING_SWITCH,
        AT(allow_remote_without_authentication), 0, 1, NULL, "off", "on|off",
        "Listen on addresses other machines can reach although anybody who reaches them may then "
        "run every task."},
    {"server", "tokens", NULL, KNIT_SETTING_PATH, AT(tokens), 0, 0, NULL, NULL, "PATH",
        "File with the names of callers and the digests of their tokens, a line each, as 'knit "
        "token' prints it. A caller that says one of them in $/hello is the principal token:NAME. "
        "Read again after SIGHUP."},
    {"server", "require_authentication", NULL, KNIT_SETTING_AUTO_SWITCH, AT(require_authentication),
        0, 1, NULL, "auto", "on|off|auto",
        "Whether callers by TCP must say who they are before all else; until then they have "
        "$/hello and $/ping, 64 KiB each way and 10 seconds, 256 of them at a time. auto is on "
        "where tokens are given without a policy, which says by the name anonymous what such "
        "callers may do. Those on the unix socket are known by their uid. With it, or with a "
        "policy that gives anonymous nothing, listen_tls takes addresses that other machines "
        "reach."},
    {"server", "reload_check_s", NULL, KNIT_SETTING_NUMBER, AT(reload_check_s), OFF, DAY_S, NULL,
        "0", "SECONDS",
        "How often the daemon looks whether the files of policy, tokens and the tls settings are "
        "others than those it has read; it reads them again, as after SIGHUP, when they look the "
        "same twice in a row. 0: after SIGHUP and knit reload alone."},
    {"server", "threads_io", NULL, KNIT_SETTING_AUTO_NUMBER, AT(threads_io), 1, 64, NULL, "auto",
        "COUNT",
        "Event loops that serve connections; auto is one for every four processors that the daemon "
        "may use."},
    {"server", "max_connections", NULL, KNIT_SETTING_NUMBER, AT(max_connections), 1, 1000000, NULL,
        "16384", "COUNT",
        "Connections served at once; further ones are closed at once. Fewer if the limit of open "
        "files (ulimit -n) leaves fewer when workers and sessions have what they need, which is "
        "said at start. One in 16, 64 at most, is kept for the unix socket."},
    {"server", "message_max_bytes", NULL, KNIT_SETTING_AUTO_NUMBER, AT(message_max_bytes), 4 * KIB,
        GIB - 1, NULL, "auto", "BYTES",
        "Longest message taken from a connection; auto is call_max_bytes and 64 KiB more."},
    {"server", "input_max_bytes", NULL, KNIT_SETTING_AUTO_NUMBER, AT(input_max_bytes), MIB,
        1024 * GIB, NULL, "auto", "BYTES",
        "Input that each event loop holds for its connections, of messages that are not whole or "
        "must wait. When it is used up, connections are closed that hold some and have sent "
        "less than 64 KiB, or than a sixteenth of what they may hold, for a second; without such, "
        "others are not read. The connections of one user, or by TCP of one address, get a "
        "quarter of it together. Auto is 256 MiB, or four of the longest messages if that is "
        "more."},
    {"server", "message_max_s", NULL, KNIT_SETTING_NUMBER, AT(message_max_s), 1, DAY_S, NULL, "120",
        "SECONDS",
        "A connection is closed whose message, of more than 32 KiB, is not whole after this."},
    {"server", "in_flight_max", NULL, KNIT_SETTING_NUMBER, AT(in_flight_max), 1, 16384, NULL,
        "1024", "COUNT",
        "Calls one connection may have in flight before its next ones wait; never more than its "
        "share of the slots."},
    {"server", "output_max_bytes", NULL, KNIT_SETTING_NUMBER, AT(output_max_bytes), 4 * KIB, GIB,
        NULL, "4MiB", "BYTES",
        "Replies that may wait for a slow reader before its requests are no longer read."},
    {"server", "output_total_max_bytes", NULL, KNIT_SETTING_NUMBER, AT(output_total_max_bytes), MIB,
        1024 * GIB, NULL, "256MiB", "BYTES",
        "Replies that wait for slow readers in the memory of each event loop, all together; then "
        "large ones stay in the shared memory of their session until they are sent."},
    {"server", "output_stall_s", NULL, KNIT_SETTING_NUMBER, AT(output_stall_s), 1, DAY_S, NULL,
        "30", "SECONDS",
        "Such a reader is disconnected when nothing moved for this long; after a second when such "
        "readers hold up others, their replies filling half an arena or half of "
        "output_total_max_bytes."},
    {"server", "idle_timeout_s", NULL, KNIT_SETTING_NUMBER, AT(idle_timeout_s), OFF, DAY_S, NULL,
        "0", "SECONDS", "A connection without traffic and calls is closed after this; 0 never."},
    {"server", "drain_ms", NULL, KNIT_SETTING_NUMBER, AT(drain_ms), 0, DAY_S * 1000, NULL, "10000",
        "MS",
        "How long calls in flight may take to finish after SIGTERM, SIGINT or knit drain; for half "
        "of "
        "it connections that have not said $/hello are served on."},
    {"server", "busy_poll_turns", NULL, KNIT_SETTING_NUMBER, AT(busy_poll_turns), 0, 1000000, NULL,
        "128", "COUNT", "Empty turns a loop polls for answers before it sleeps until one comes."},
    {"server", "max_backoff_ms", NULL, KNIT_SETTING_NUMBER, AT(max_backoff_ms), 1, 60000, NULL,
        "10", "MS", "Longest such sleep while calls are in flight."},

    {"pool", "modules", "module", KNIT_SETTING_PATH_LIST, AT(modules), 0, 256, NULL, NULL,
        "PATH...",
        "Task modules (shared objects) to load; may be given several times. Left out, all in the "
        "installation's knitting/modules folder."},
    {"pool", "modules_root", NULL, KNIT_SETTING_PATH, AT(modules_root), 0, 0, NULL, NULL, "PATH",
        "Folder that all modules must lie in, at any depth, when symbolic links have been "
        "followed; "
        "left out, they may lie anywhere."},
    {"pool", "workers", NULL, KNIT_SETTING_AUTO_NUMBER, AT(workers), 1, 256, NULL, "auto", "COUNT",
        "Worker processes; auto is one for every processor that the daemon may use, by its "
        "affinity "
        "and the quota of its control group, at least 2."},
    {"pool", "balancer", NULL, KNIT_SETTING_CHOICE, AT(balancer), 0, 0, balancers, "roundRobin",
        "NAME",
        "How a lane is chosen for a call. roundRobin: those of each task in turn; with steal on, "
        "the one that answered last while its worker is awake. firstIdle: the first one with "
        "nothing queued or running, else in turn. randomLane: any. firstIdleOrRandom: the first "
        "such one, else any. leastLoaded: the one with the fewest calls of the same caller."},
    {"pool", "steal", NULL, KNIT_SETTING_AUTO_SWITCH, AT(steal), 0, 1, NULL, "auto", "on|off|auto",
        "Whether idle workers take calls queued for others; auto is on unless a balancer is "
        "named."},
    {"pool", "inliner_position", NULL, KNIT_SETTING_CHOICE, AT(inliner_position), 0, 0, positions,
        "none", "NAME",
        "Whether event loops run short tasks themselves, beside the workers: of each task's calls "
        "one in a round over loop and workers, the first or the last. Tasks must be marked "
        "inline-safe, in inliner_modules; calls by shared memory go to workers in any case. A loop "
        "does nothing else while such a task runs. Needs inline_unconfined."},
    {"pool", "inliner_batch", NULL, KNIT_SETTING_NUMBER, AT(inliner_batch), 0, UINT32_MAX, NULL,
        "1", "COUNT", "Such calls a loop runs before it looks at everything else; 0 is 1."},
    {"pool", "inliner_dispatch_threshold", NULL, KNIT_SETTING_NUMBER,
        AT(inliner_dispatch_threshold), 0, UINT32_MAX, NULL, "1", "COUNT",
        "A loop runs calls of a task itself once it has so many of it in flight."},
    {"pool", "inliner_modules", NULL, KNIT_SETTING_PATH_LIST, AT(inliner_modules), 0, 256, NULL,
        NULL, "PATH...",
        "The modules, of those of the pool, that are loaded into the daemon for that; may be given "
        "several times."},
    {"pool", "inline_unconfined", NULL, KNIT_SETTING_SWITCH, AT(inline_unconfined), 0, 1, NULL,
        "off", "on|off",
        "Allow modules in the daemon itself: their tasks may do there what its user may, nothing "
        "limits their time or memory, and a crash ends the daemon."},
    {"pool", "sessions_per_user", NULL, KNIT_SETTING_NUMBER, AT(sessions_per_user), 1, 120, NULL,
        "64", "COUNT",
        "Sessions over shared memory that one user's processes may have at once. There are 120 for "
        "all, fewer where the limit of open files is low; the last 16, a quarter at most, are kept "
        "for users who have none."},
    {"pool", "slots", NULL, KNIT_SETTING_NUMBER, AT(slots), 16, 16368, NULL, "1008", "COUNT",
        "Calls each event loop may have in the lanes at once."},
    {"pool", "queue_max", NULL, KNIT_SETTING_NUMBER, AT(queue_max), 0, 16368, NULL, "0", "COUNT",
        "Calls of one event loop, in the lanes and waiting for them, from which further ones are "
        "refused as OVERLOADED; 0 lets them wait."},
    {"pool", "queue_delay_ms", NULL, KNIT_SETTING_NUMBER, AT(queue_delay_ms), 0, DAY_S * 1000, NULL,
        "0", "MS",
        "A call that would wait longer, by what is before it and the mean time of the tasks, is "
        "refused as OVERLOADED when it comes; 0 lets it wait for as long as its caller does. Needs "
        "lane_depth_us."},
    {"pool", "lane_depth_us", NULL, KNIT_SETTING_NUMBER, AT(lane_depth_us), 0, 1000000, NULL, "500",
        "US",
        "Work that an event loop puts into a worker's lane ahead, by the mean time of the tasks; "
        "two calls in any case. What is beyond waits, and connections have their turn one after "
        "the other. 0: as much as there are slots."},
    {"pool", "arena_initial_bytes", NULL, KNIT_SETTING_NUMBER, AT(arena_initial_bytes), 0,
        4 * GIB - MIB, NULL, "64KiB", "BYTES",
        "Memory of an arena that it has when it is made; more comes as it is needed."},
    {"pool", "arena_mode", NULL, KNIT_SETTING_CHOICE, AT(arena_mode), 0, 0, arena_modes, "growable",
        "NAME",
        "fixed: an arena has all its memory when it is made, so that no call waits for the kernel "
        "to give some, or fails because there is none. A session then takes arena_bytes for "
        "itself, and as much for each worker."},
    {"pool", "arena_bytes", NULL, KNIT_SETTING_NUMBER, AT(arena_bytes), 64 * KIB, 4 * GIB - MIB,
        NULL, "64MiB", "BYTES", "Size of an arena: what large payloads lie in."},
    {"pool", "call_max_bytes", NULL, KNIT_SETTING_AUTO_NUMBER, AT(call_max_bytes), 1, GIB, NULL,
        "auto", "BYTES",
        "Largest payload of one call, at most an eighth of arena_bytes; auto is that "
        "eighth."},
    {"pool", "deferred_max", NULL, KNIT_SETTING_NUMBER, AT(deferred_max), 0, 16384, NULL, "64",
        "COUNT",
        "Calls of one worker at once whose tasks have returned and whose outcomes come later; "
        "0: none may."},
    {"pool", "hard_timeout_ms", NULL, KNIT_SETTING_NUMBER, AT(hard_timeout_ms), OFF, DAY_S * 1000,
        NULL, "0", "MS", "A task that runs longer has its worker killed and replaced; 0 never."},
    {"pool", "hard_timeout_scope", NULL, KNIT_SETTING_CHOICE, AT(hard_timeout_scope), 0, 0, scopes,
        "worker", "SCOPE",
        "What a hard timeout ends: the worker alone, or the pool: then the daemon ends too, and "
        "all other calls with SHUTDOWN."},
    {"pool", "abort_grace_ms", NULL, KNIT_SETTING_NUMBER, AT(abort_grace_ms), OFF, DAY_S * 1000,
        NULL, "10000", "MS",
        "When no caller waits for a call any more (cancelled, timed out, caller gone) and its task "
        "has not stopped for this long, its worker is killed and replaced; 0 never."},
    {"pool", "slow_call_ms", NULL, KNIT_SETTING_NUMBER, AT(slow_call_ms), OFF, DAY_S * 1000, NULL,
        "30000", "MS",
        "A call that runs longer is logged once, with task, worker and age; 0 none."},
    {"pool", "notification_max_ms", NULL, KNIT_SETTING_NUMBER, AT(notification_max_ms), OFF,
        DAY_S * 1000, NULL, "60000", "MS",
        "How long a task that was called by notification may go on after its caller has gone; "
        "then it is aborted; 0 without limit."},
    {"pool", "deaths_per_minute", NULL, KNIT_SETTING_NUMBER, AT(deaths_per_minute), OFF, 10000,
        NULL, "10", "COUNT",
        "Workers that a task may take down by its own fault in a minute; then its calls are "
        "refused as QUARANTINED until one more may be spent, or somebody lifts it; 0 no limit."},
    {"pool", "bootstrap", NULL, KNIT_SETTING_TEXT, AT(bootstrap), 0, 0, NULL, NULL, "TEXT",
        "Text handed to the modules' bootstrap hooks."},
    {"pool", "worker_program", NULL, KNIT_SETTING_PATH, AT(worker_program), 0, 0, NULL, NULL,
        "PATH", "The worker executable; left out, the one installed with this daemon."},

    {"worker", "spin_us", NULL, KNIT_SETTING_NUMBER, AT(spin_us), 0, 1000000, NULL, "50", "US",
        "How long an idle worker looks for work before it sleeps, at most; 0 sleeps at once."},
    {"worker", "park_ms", NULL, KNIT_SETTING_NUMBER, AT(park_ms), OFF, 3600000, NULL, "0", "MS",
        "Longest such sleep; 0 until it is woken, which is all that is needed."},
    {"worker", "pause_ns", NULL, KNIT_SETTING_NUMBER, AT(pause_ns), 0, 1000000, NULL, "250", "NS",
        "Pause between two looks while it looks; 0 does not pause."},
    {"worker", "permission", NULL, KNIT_SETTING_CHOICE, AT(permission), 0, 0, permissions, "strict",
        "NAME",
        "What tasks may touch. strict: read modules, libraries and read_paths, nothing else. "
        "custom: "
        "that, and what the keys below open. unsafe: whatever the daemon's user may. Given, it is "
        "enforced or the daemon does not start; left out, it is enforced as far as the kernel "
        "can."},
    {"worker", "read_paths", NULL, KNIT_SETTING_PATH_LIST, AT(read_paths), 0, 256, NULL, NULL,
        "PATH...",
        "Files and folders tasks may read; may be given several times. For a file that is replaced "
        "by renaming another one, give its folder: the new file is not the one that was opened "
        "up."},
    {"worker", "write_paths", NULL, KNIT_SETTING_PATH_LIST, AT(write_paths), 0, 256, NULL, NULL,
        "PATH...",
        "Files and folders tasks may read, write, make and remove; may be given several times; "
        "needs permission custom."},
    {"worker", "connect_ports", NULL, KNIT_SETTING_LIST, AT(connect_ports), 0, 64, NULL, NULL,
        "PORT...",
        "TCP ports tasks may connect to, or the word any; needs permission custom, and Linux 6.7 "
        "unless it is any (with udp_sockets or unix_sockets on: unless both lists of ports are)."},
    {"worker", "listen_ports", NULL, KNIT_SETTING_LIST, AT(listen_ports), 0, 64, NULL, NULL,
        "PORT...",
        "TCP ports tasks may listen on, or the word any; needs the same as connect_ports. If it is "
        "given, tasks may also listen on a port that the kernel picks for a socket that names "
        "none."},
    {"worker", "udp_sockets", NULL, KNIT_SETTING_SWITCH, AT(udp_sockets), 0, 1, NULL, "off",
        "on|off",
        "Whether tasks may send and receive datagrams, name lookups among them; needs permission "
        "custom."},
    {"worker", "unix_sockets", NULL, KNIT_SETTING_SWITCH, AT(unix_sockets), 0, 1, NULL, "off",
        "on|off",
        "Whether tasks may connect to unix sockets, the daemon's own among them; needs permission "
        "custom."},
    {"worker", "exec_programs", NULL, KNIT_SETTING_SWITCH, AT(exec_programs), 0, 1, NULL, "off",
        "on|off",
        "Whether tasks may run programs, confined as they are: files in the system's folders and "
        "in read_paths, and what they have made in memory; needs permission custom."},
    {"worker", "memory_max_bytes", NULL, KNIT_SETTING_NUMBER, AT(memory_max_bytes), OFF,
        1024 * 1024 * GIB, NULL, "0", "BYTES",
        "Private memory a worker may have (RLIMIT_DATA); 0 no limit."},
    {"worker", "files_max", NULL, KNIT_SETTING_AUTO_NUMBER, AT(files_max), OFF, 1048576, NULL,
        "auto", "COUNT",
        "Descriptors a worker may have open (RLIMIT_NOFILE); auto is a quarter of the daemon's, "
        "from 256 to 1024; 0 as many as the daemon. Tasks that may have nearly as many can send "
        "each other so many that the daemon can attach no callers and start no workers."},
    {"worker", "core_max_bytes", NULL, KNIT_SETTING_AUTO_NUMBER, AT(core_max_bytes), 0,
        1024 * 1024 * GIB, NULL, "auto", "BYTES",
        "Size of the core dump of a worker that crashes; auto is none, and with permission unsafe "
        "the daemon's own limit."},
    {"worker", "file_max_bytes", NULL, KNIT_SETTING_NUMBER, AT(file_max_bytes), OFF,
        1024 * 1024 * GIB, NULL, "0", "BYTES", "Size to which a file may be written; 0 no limit."},

    {"log", "level", "log-level", KNIT_SETTING_CHOICE, AT(level), 0, 0, levels, "info", "LEVEL",
        "Least important lines that are written: error, warning, info or debug, which is info and "
        "all that log.debug can name."},
    {"log", "format", "log-format", KNIT_SETTING_CHOICE, AT(log_format), 0, 0, log_formats,
        "logfmt", "FORMAT", "How lines are written: logfmt, or json, an object a line."},
    {"log", "access_log", NULL, KNIT_SETTING_TEXT, AT(access_log), 0, 0, NULL, "none", "WHERE",
        "Where a line goes for each call that comes over a socket: none, log for the daemon's log, "
        "or the absolute path of a file, which a reload opens again."},
    {"log", "otlp_endpoint", NULL, KNIT_SETTING_TEXT, AT(otlp_endpoint), 0, 0, NULL, NULL, "URL",
        "Collector of OpenTelemetry that gets a span for each call by sockets whose trace is "
        "sampled, by OTLP/HTTP as JSON, as in " KNIT_COLLECTOR_EXAMPLE "; by http alone. Left out, "
        "spans go nowhere."},
    {"log", "otlp_service_name", NULL, KNIT_SETTING_TEXT, AT(otlp_service_name), 0, 0, NULL,
        "knittingd", "NAME", "What the daemon is called in spans, their service.name."},
    {"log", "debug", NULL, KNIT_SETTING_LIST, AT(debug), 0, 8, NULL, NULL, "NAMESPACE...",
        "What to say more about: host, lane, signals, imports, lifecycle. $KNITTING_DEBUG "
        "adds to it."},
};

/* Keys that have another name now. An old file is refused with the new name and not read anyway:
 * two of these sounded alike and meant different things. */
static const struct {
    const char *section, *key, *successor;
} renamed[] = {
    {"server", "stall_free_loops", "busy_poll_turns"},
    {"pool", "payload_initial_bytes", "arena_initial_bytes"},
    {"pool", "payload_max_bytes", "arena_bytes"},
    {"pool", "max_payload_bytes", "call_max_bytes"},
    {"pool", "payload_mode", "arena_mode"},
};

static bool is_same_key(const char *key, const char *name)
{
    for (; *key != '\0' && (*key == *name || (*key == '_' && *name == '-')); key++)
        name++;
    return *key == *name;
}

const struct knit_setting *knit_setting_successor(const char *section, const char *key)
{
    for (size_t i = 0; i < sizeof(renamed) / sizeof(renamed[0]); i++)
        if ((section == NULL || strcmp(renamed[i].section, section) == 0) &&
            is_same_key(renamed[i].key, key))
            return knit_setting_by_key(renamed[i].section, renamed[i].successor);
    return NULL;
}

const size_t knit_setting_count = sizeof(knit_setting_table) / sizeof(knit_setting_table[0]);
_Static_assert(sizeof(knit_setting_table) / sizeof(knit_setting_table[0]) <=
                   sizeof((struct knit_settings *)0)->source,
    "every row needs a place for its source");
