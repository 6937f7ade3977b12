import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AGENT } from '@sepia/cluster/api/agent';
import {
  ORIGIN_BLOBS,
  ORIGIN_GC,
  ORIGIN_NAMES,
  ORIGIN_RECORDS,
  ORIGIN_WRITE_BACK,
} from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { ORIGIN_RING } from '@sepia/cluster/api/ring';
import type { Caller, Route } from '@sepia/cluster/api/route';
import { TRACKER } from '@sepia/cluster/api/tracker';
import t from 'tap';
import { isDeadlines } from './sources.ts';

const ROOT = resolve(import.meta.dirname, '..');

/** A thing that is there once: what a copy of it looks like, and the files that may look so. */
interface OneOfEach {
  readonly what: string;
  readonly copy: RegExp;
  readonly homes: readonly string[];
}

const ONES: readonly OneOfEach[] = [
  {
    what: 'the name of a blob',
    copy: /\binterface BlobName\b|\btype BlobName\b\s*=/,
    homes: ['shared/base/src/names/blob-name.ts'],
  },
  {
    what: 'the path of a call between members, and its query',
    copy: /['"](?:[A-Z]+ )?\/v1\/|`\/v1\/[^`]*\$\{|URLSearchParams\(\{\s*upstream(?:: [\w.]+)?,\s*repository|[?&`]upstream=\$\{/,
    homes: [
      'shared/cluster/src/api/agent.ts',
      'shared/cluster/src/api/origin.ts',
      'shared/cluster/src/api/proxy.ts',
      'shared/cluster/src/api/ring.ts',
      'shared/cluster/src/api/tracker.ts',
      'shared/http/src/open-routes.ts', // what is open without a signature
    ],
  },
  {
    what: 'the key that places a repository on the ring',
    copy: /\bfunction shardKey\b|upstream\}\\n\$\{[\w.]*repository\}`/,
    homes: ['shared/cluster/src/cluster.ts'],
  },
  {
    what: 'what a link is remembered by',
    copy: /upstream\}\\n\$\{[\w.]*repository\}\\n\$\{[\w.]*digest\}`/,
    homes: ['shared/base/src/names/blob-name.ts'],
  },
  {
    what: 'a repository in keys on disk',
    copy: /`tag\\0\$\{/,
    homes: ['shared/records/src/store/record-store.ts'],
  },
  {
    what: 'a map that lets go of its oldest',
    copy: /\.(?:keys|values)\(\)\.next\(\)\.value/,
    homes: ['shared/base/src/latest-map.ts', 'agent/src/node/core/lease-book.ts'],
  },
  {
    what: "an interval by the cluster's date, which may be set: that is `dateMs`",
    copy: /\{ nowMs \} = (?:this\.#)?clock|nowMs: (?:[\w.#]*\.)?clock\.nowMs/,
    homes: ['shared/http/src/member-gate.ts'],
  },
  {
    what: "the cluster's date as a clock for intervals, or the other way round",
    copy: /\bdateMs: nowMs\b/,
    homes: [],
  },
  {
    what: 'a wait that doubles',
    copy: /[mM]s\w* \* 2 \*\*|_MS \* 2 \*\*|\b(\w*Ms) = Math\.min\([^)]*\b\1 \* 2\)|firstMs \* 2 \*\*/,
    homes: ['shared/base/src/async/backoff.ts'],
  },
  {
    what: 'a wait for what an upstream may have to answer first; the other is of idle sockets',
    copy: /\b(?:75|80|85)_000[,;]/,
    homes: ['shared/cluster/src/deadlines.ts', 'shared/http/src/deadlines/sockets.ts'],
  },
  {
    what: 'the longest time that timers take; the other is a number of FUSE',
    copy: /\b2 \*\* 31 - 1\b|\b2147483647\b|\b0x7fffffff\b/,
    homes: ['shared/base/src/bounded-ms.ts', 'snapshotter/src/fuse/worker.ts'],
  },
  { what: 'chance', copy: /randomInt\([^)]*\) \/ |Math\.random/, homes: ['shared/base/src/clock/chance.ts'] },
  { what: 'lookup of hosts', copy: /\blookup\b.*'node:dns'/, homes: ['shared/http/src/names/lookup.ts'] },
  { what: 'wait until another is silent: `afterOwnMs`', copy: /\(\) => setImmediate\(\w/, homes: [] },
  {
    what: 'a loop of passes and rests that a service runs by itself',
    copy: /while \((?:await pause\(|!\w*\.?signal\.aborted)|\basync #\w*[fF]orever\b/,
    // Beside it: what is kept up while something is held or watched, or rests in its own way.
    homes: [
      'accelerator/src/events/job-watch.ts',
      'accelerator/src/worker.ts',
      'proxy/src/cluster/origins.ts',
      'proxy/src/harbor/event-queue.ts',
      'proxy/src/harbor/jobs.ts',
      'shared/base/src/async/passes.ts',
      'shared/store/src/scrubber.ts',
      'snapshotter/src/layers/cache-keeper.ts',
      'snapshotter/src/layers/filler.ts',
      'snapshotter/src/offers/publisher.ts',
      'snapshotter/src/readiness.ts',
    ],
  },
  {
    what: 'members that are asked, all or one after the other',
    copy: /\blet last: unknown\b|Promise\.(?:all|allSettled|any)\(\s*[\w.#()]*\b(?:ids|[a-z]+Ids|allIds\(\)|others|members|owners|origins|trackers|proxies|candidates)\.map\(/,
    // The other tries the names to ask one registry as.
    homes: ['shared/base/src/async/ask-many.ts', 'shared/upstream/src/transport.ts'],
  },
  {
    what: 'a loop that tries one after the other until one answers: that is `askInTurn`',
    copy: /\bfor (?:await )?\([^\n]* of [^\n]*\) \{\n(?:[^\n]*\n)?\s*try \{\n(?:(?!\} catch)[\s\S])*?\breturn (?!')(?:(?!\} catch)[\s\S])*?\} catch/,
    // The others weigh what failed against each other, or look at what came.
    homes: [
      'agent/src/cluster/access-client.ts',
      'origin/src/blobs/repair.ts',
      'shared/backend/src/first-of.ts',
      'shared/base/src/async/ask-many.ts',
      'shared/upstream/src/transport.ts',
      'tracker/src/metainfo/origins.ts',
    ],
  },
  {
    what: 'a run that all join who ask for it meanwhile',
    copy: /new Map<[^;()]*\b(?:Promise|Starting)</,
    // Beside locks: what is made once and stays known, many spans in one run, runs that begin after something was opened.
    homes: [
      'agent/src/blobs/blob-table.ts',
      'origin/src/strangers/torrent-pieces.ts',
      'shared/base/src/async/keyed-locks.ts',
      'shared/lazy/src/convert/convert-image.ts',
      'shared/store/src/folders.ts',
      'snapshotter/src/layers/layers.ts',
    ],
  },
  {
    what: 'the fault of a message that does not fit its schema, in words; the others are of files that are read',
    copy: /\.issues\b|\{ issues \}/,
    homes: [
      'cli/src/config/guess-role.ts',
      'shared/base/src/config/load.ts',
      'shared/cluster/src/message.ts',
    ],
  },
  {
    what: 'so many at once, the others in the order in which they came',
    copy: /const \[first\] = this\.#(?:wait|lane)\w*;|\(\(\) => void\)\[\] = \[\]|\.shift\(\)\?\.\(\)/,
    // The second wakes those that take for themselves, and may find nothing.
    homes: ['shared/base/src/async/slots.ts', 'shared/base/src/async/wake-turns.ts'],
  },
  {
    what: 'who could hold a copy',
    copy: /\[\.\.\.(?:\w+\.)?owners, \.\.\.(?:\w+\.)?standIns/,
    homes: ['shared/cluster/src/ring.ts'],
  },
  {
    what: 'who has a blob, by what each origin said of it, and who may fetch it',
    copy: /'final' \| 'open' \| 'none'|\binterface Whereabouts\b|\['final', 'open'\]|\bstate: 'silent'/,
    homes: ['shared/cluster/src/api/blob-answers.ts', 'shared/cluster/src/core/where.ts'],
  },
  {
    what: 'memory of who is silent, and whom that chooses: `order`, `tries` and `leader`',
    copy: /\bclass \w*Health\b|\.find\(\([^=\n]*=> [^\n]*isSuspect\(|isSuspect\(\w+\)\)[^\n]*\[0\]|health\.order\([^;]*\bcandidates\b/,
    homes: ['shared/cluster/src/core/health.ts'],
  },
  {
    what: 'whether what a member said is silence, an answer, the last word',
    copy: /\bfunction is(?:Silence|Definite|Certain|Decisive)\b|=== 'PEER_HTTP' && \w+\.detail/,
    homes: ['shared/cluster/src/core/answers.ts'],
  },
  {
    what: 'belief in a link, which ends by time and by a revocation',
    copy: /#revision\b|\bLINK_TTL_MS\b|\bclass \w*Ledger\b/,
    homes: ['shared/cluster/src/core/link-ledger.ts'],
  },
  {
    what: 'client of other HTTP servers: between members, of registries; the rest asks what this machine runs',
    copy: /\bfrom '(?:[^']*\/)?undici(?:\.ts)?'/,
    homes: [
      'cli/src/demo/agent-bytes.ts',
      'cli/src/harbor/api.ts',
      'cli/src/harbor/preheat-client.ts',
      'cli/src/harbor/robot.ts',
      'cli/src/harbor/verify.ts',
      'cli/src/lazy/snapshotter-status.ts',
      'cli/src/registry/registry-client.ts',
      'cli/src/registry/torrent-client.ts',
      'cli/src/up/readiness.ts',
      'shared/http/src/client.ts',
      'shared/http/src/loaded/undici.ts',
      'shared/http/src/sockets.ts',
      'shared/upstream/src/exchange.ts',
      'snapshotter/src/launch.ts',
    ],
  },
  {
    what: 'body that is read to memory, up to a limit',
    copy: />\s*\w*(?:limit|max|LIMIT|MAX)\w*\)\s*throw\b[\s\S]{0,160}?\.push\(chunk\)/,
    homes: ['shared/http/src/bodies/whole-body.ts'],
  },
  {
    what: 'pool of sockets',
    copy: /\bnew (?:Agent|Pool|BalancedPool|ProxyAgent|EnvHttpProxyAgent|RetryAgent)\(/,
    homes: ['shared/http/src/sockets.ts'],
  },
  {
    what: 'encryption between members, made with how they are dialled',
    copy: /\bmemberEncryption\(/,
    homes: ['shared/cluster/src/member-config.ts', 'shared/http/src/tls/cluster-encryption.ts'],
  },
  {
    what: 'credential of Basic; Harbor compares its own',
    copy: /`Basic \$\{/,
    homes: ['proxy/src/harbor/request-auth.ts', 'shared/upstream/src/credentials/basic.ts'],
  },
  {
    what: 'challenge of a registry, read',
    copy: /\bfunction parse\w*Challenge|\bparseChallenges\(/,
    homes: [
      'shared/oci/src/www-authenticate.ts',
      'shared/upstream/src/authenticator.ts',
      'shared/upstream/src/authority.ts',
    ],
  },
  {
    what: 'queue that outlives its process',
    copy: /\bclass (?:\w*Queue|\w*Jobs)\b/,
    // The lists in which conversions wait, Harbor's jobs and events, and replication rest in records.
    homes: [
      'origin/src/replication/replication-queue.ts',
      'origin/src/replication/replication-jobs.ts',
      'proxy/src/harbor/event-queue.ts',
      'proxy/src/harbor/jobs.ts',
      'shared/records/src/jobs/job-queue.ts',
    ],
  },
  {
    what: 'engine that keeps records',
    copy: /\bfrom '(?:level|classic-level|abstract-level|pg)'/,
    homes: ['shared/records/src/table/postgres/database.ts', 'shared/store/src/level-database.ts'],
  },
  {
    what: 'way to take content away: delete, purge, remove, revoke; Harbor purges by one of them',
    copy: /\bclass \w*(?:Delete|Purge|Removal|Invalidation|Forget)\w*/,
    homes: [
      'origin/src/removal/deletes.ts',
      'origin/src/removal/invalidation.ts',
      'origin/src/removal/purges.ts',
      'origin/src/removal/removals.ts',
      'proxy/src/harbor/purger.ts',
    ],
  },
  { what: 'body in several ranges', copy: /boundary=\$\{/, homes: ['shared/http/src/serve-blob.ts'] },
  {
    what: 'protocol of BitTorrent that is overridden',
    copy: /\bfrom 'bittorrent-protocol'/,
    homes: ['shared/swarm/src/wire/wire.ts'],
  },
];

const SOURCES = globSync(
  ['shared/*/src/**/*.ts', '{tracker,origin,agent,proxy,accelerator,snapshotter,cli,sim}/src/**/*.ts'],
  { cwd: ROOT },
).map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));

for (const { what, copy, homes } of ONES) {
  t.test(`there is one of ${what}`, async (t) => {
    const found = SOURCES.filter(({ text }) => copy.test(text)).map(({ path }) => path);
    t.same(found.sort(), [...homes].sort(), `write no second one; use the one of ${homes.join(', ')}`);
  });
}

/** Whose waits all stand in a table, `src/deadlines.ts`. */
const TABLES: readonly string[] = [
  'accelerator',
  'agent',
  'cli',
  'origin',
  'proxy',
  'shared/backend',
  'shared/cluster',
  'shared/face',
  'shared/http',
  'shared/records',
  'shared/store',
  'shared/upstream',
  'snapshotter',
  'tracker',
];
/** What looks like a deadline and is none, or is one that shows the rule it is part of: by file, with the reason. */
const NO_DEADLINES: Readonly<Record<string, string>> = {
  'cli/src/simulate/scenarios.ts': 'when a machine that the simulator crashed is back: a fault, not a wait',
  'shared/cluster/src/api/commands.ts': 'what the route takes',
  'shared/cluster/src/api/lease.ts': 'what the route takes',
  'shared/cluster/src/core/health.ts': 'part of the rule who is silent',
  'shared/cluster/src/core/link-ledger.ts': 'part of the rule how long a link is believed',
  'shared/http/src/answer-pace.ts': 'the ceiling of an estimate',
  'shared/http/src/bodies/core/body-windows.ts': 'what the pace of a body calls quick',
  'shared/http/src/nonce-book.ts': 'the grain of what is forgotten together',
  'shared/http/src/sign.ts': 'part of the format of a signature',
  'shared/records/src/core/floor.ts': 'a distance of clocks in records',
  'shared/records/src/store/record-dump.ts': 'a distance of clocks in records',
  'shared/store/src/core/scrub-plan.ts': 'part of the rule how reads are spread',
};

t.test('how long a service waits stands in its table of deadlines alone', async (t) => {
  const number =
    /^(?:export )?const \w+_MS = |\b\w*(?:Ms|Timeout): [1-9][\d_]|\btimeout\([1-9]|_MS \+ \d{2}/m;
  const found = SOURCES.filter(
    ({ path, text }) =>
      TABLES.some((home) => path.startsWith(`${home}/src/`)) && !isDeadlines(path) && number.test(text),
  ).map(({ path }) => path);
  t.same(found.sort(), Object.keys(NO_DEADLINES).sort(), 'write it into src/deadlines.ts, with its reason');
});

t.test('a table of deadlines gives a reason above each row, and its name ends with the unit', async (t) => {
  const tables = SOURCES.filter(({ path }) => isDeadlines(path));
  t.ok(tables.length >= TABLES.length);
  for (const { path, text } of tables) {
    const rows = [...text.matchAll(/^(.*)\nexport const (\w+) = /gm)];
    t.ok(rows.length > 2, path);
    t.same(
      rows
        .filter(([, above, name]) => !above!.endsWith('*/') || !name!.endsWith('_MS'))
        .map(([, , name]) => name),
      [],
      `${path}: a line that ends the reason stands above, and the unit ends the name`,
    );
  }
});

t.test('there is one way in which tests wait', async (t) => {
  const found = globSync(['**/test/**/*.ts'], {
    cwd: ROOT,
    exclude: (name) => name === 'node_modules',
  }).filter((path) => /\bfunction until\b/.test(readFileSync(join(ROOT, path), 'utf8')));
  // base is below the test support: its one test that waits does so by itself.
  t.same(found.sort(), ['shared/base/test/async/ask-many.test.ts', 'test/support/src/until.ts']);
});

t.test('there is one place that says which cases property tests draw', async (t) => {
  const found = globSync(['**/{src,test}/**/*.ts'], {
    cwd: ROOT,
    exclude: (name) => name === 'node_modules',
  }).filter((path) => /^import .* from 'fast-check'/m.test(readFileSync(join(ROOT, path), 'utf8')));
  t.same(found.sort(), ['test/support/src/property.ts']);
});

t.test('the tables of routes name who makes each call', async (t) => {
  const tables: Readonly<Record<string, Readonly<Record<string, Route>>>> = {
    ORIGIN_BLOBS,
    ORIGIN_GC,
    ORIGIN_WRITE_BACK,
    ORIGIN_NAMES,
    ORIGIN_RECORDS,
    ORIGIN_RING,
    TRACKER,
    PROXY,
    AGENT,
  };
  const found = new Map<Route, Set<string>>();
  const shared = new Set<Route>();
  for (const { path, text } of SOURCES) {
    const code = text.replace(/serve\(\s*router,\s*\w+\.\w+/g, '').replace(/\w+\.\w+\.body\b/g, '');
    for (const [, table, key] of code.matchAll(/\b(ORIGIN_\w+|TRACKER|PROXY|AGENT)\.(\w+)/g)) {
      const route = tables[table!]?.[key!];
      if (route === undefined) continue;
      if (path.startsWith('shared/')) shared.add(route);
      else found.set(route, (found.get(route) ?? new Set()).add(path.split('/')[0]!));
    }
  }
  for (const route of Object.values(tables).flatMap((table) => Object.values(table))) {
    const callers = [...(found.get(route) ?? [])].sort();
    const line = `${route.method} ${route.path}`;
    if (shared.has(route))
      t.ok(
        callers.every((one) => route.callers.includes(one as Caller)),
        line,
      );
    else t.same(callers, [...route.callers].sort(), line);
  }
});

t.test('a decision record has a number of its own, which its title says', async (t) => {
  const files = globSync('docs/adr/[0-9]*.md', { cwd: ROOT }).map((file) => file.slice('docs/adr/'.length));
  t.ok(files.length > 40);
  t.equal(new Set(files.map((file) => file.slice(0, 4))).size, files.length, files.sort().join(' '));
  for (const file of files) {
    const [title] = readFileSync(join(ROOT, 'docs/adr', file), 'utf8').split('\n');
    t.match(title, new RegExp(`^# ${Number(file.slice(0, 4))}\\. `), file);
  }
});
