import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createAccelerator, loadAcceleratorConfig } from '@sepia/accelerator';
import { createAgent, loadAgentConfig } from '@sepia/agent';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { createOrigin, loadOriginConfig } from '@sepia/origin';
import { createProxy, loadProxyConfig } from '@sepia/proxy';
import { createTracker, loadTrackerConfig } from '@sepia/tracker';
import t, { type Test } from 'tap';
import { checkFile } from '../../src/config/check-file.ts';

const log = silentLogger();
/** Starts a role from a file, as its process does. */
const STARTS = {
  origin: async (file: string) => await createOrigin(loadOriginConfig(file), { log }),
  tracker: async (file: string) => await createTracker(loadTrackerConfig(file), { log }),
  proxy: async (file: string) => await createProxy(loadProxyConfig(file), { log }),
  agent: async (file: string) => await createAgent(loadAgentConfig(file), { log }),
  accelerator: async (file: string) => await createAccelerator(loadAcceleratorConfig(file), { log }),
} as const;
type Started = keyof typeof STARTS;

const ANY = '127.0.0.1:0';
const OWN: Readonly<Record<Started, object>> = {
  origin: { id: 'origin-1', listen: ANY, 'peer-listen': [ANY] },
  tracker: { id: 'tracker-1', listen: ANY },
  proxy: { id: 'proxy-1', listeners: [{ listen: ANY }] },
  agent: { id: 'agent-1', listeners: [{ listen: ANY }], 'peer-listen': [ANY] },
  accelerator: { id: 'accelerator-1', listen: ANY },
};
const HUB = { name: 'hub', mode: 'pull-through', url: 'http://127.0.0.1:1' };
const LOCAL = { name: 'local', mode: 'none' };
const S3 = { bucket: 'bucket', region: 'r', endpoint: 'http://127.0.0.1:1', ca: 'none.pem' };
const PUBLIC_RULES = { rules: [{ who: ['anonymous'], repositories: ['**'], actions: ['read'] }] };
const TO = { url: 'http://127.0.0.1:1' };

interface Wrong {
  readonly role: Started;
  readonly config?: object;
  readonly document?: object;
  readonly message: RegExp;
}

const WRONG: readonly Wrong[] = [
  { role: 'origin', config: { id: undefined }, message: /^id: is missing/ },
  { role: 'tracker', config: { id: 'tracker-9' }, message: /^id: "tracker-9" is not in .*role tracker/ },
  { role: 'proxy', config: { id: 'origin-1' }, message: /^id: "origin-1" has role origin/ },
  {
    role: 'agent',
    config: { listeners: [{ listen: ANY, 'default-upstream': 'nope' }] },
    message: /^listeners\.0\.default-upstream: no upstream "nope"/,
  },
  {
    role: 'proxy',
    config: { listeners: [{ listen: ANY }, { listen: ANY, 'default-upstream': 'nope' }] },
    message: /^listeners\.1\.default-upstream: no upstream "nope"/,
  },
  { role: 'proxy', config: { 'audit-log': '.' }, message: /^audit-log: .*cannot be opened \(EISDIR\)/ },
  {
    role: 'agent',
    config: { 'audit-log': 'passwords/deeper/audit.log' },
    message: /^audit-log: .*cannot be opened \(ENOTDIR\)/,
  },
  ...(['origin', 'tracker', 'agent', 'accelerator'] as const).flatMap((role) => [
    { role, config: { data: 'passwords' }, message: /^data: folder .* cannot be made \(a part of it is not/ },
    { role, config: { data: 'empty/deeper' }, message: /^data: folder .* cannot be made \(a part of it/ },
  ]),
  { role: 'agent', config: { 'node-secret-file': 'none' }, message: /^node-secret-file: .*ENOENT/ },
  {
    role: 'proxy',
    config: { 'accounts-file': 'passwords' },
    message: /^accounts-file: .*no section accounts/,
  },
  { role: 'proxy', document: { accounts: PUBLIC_RULES }, message: /^accounts-file: is missing/ },
  {
    role: 'proxy',
    config: { 'accounts-file': 'none' },
    document: { accounts: PUBLIC_RULES },
    message: /^accounts-file: .*none cannot be read \(ENOENT\)/,
  },
  {
    role: 'proxy',
    config: { 'accounts-file': 'passwords' },
    document: { accounts: PUBLIC_RULES },
    message: /^accounts-file: .*line 1 has no bcrypt hash/,
  },
  {
    role: 'proxy',
    config: { harbor: { 'driver-auth': { mode: 'basic', username: 'u' } } },
    message: /harbor\.driver-auth\.secret-file: is missing; mode basic needs it/,
  },
  {
    role: 'proxy',
    config: { harbor: { 'driver-auth': { mode: 'custom', 'secret-file': 'passwords' } } },
    message: /harbor\.driver-auth\.header: is missing; mode custom needs it/,
  },
  {
    role: 'proxy',
    config: { harbor: { 'driver-auth': { mode: 'bearer', 'secret-file': 'empty' } } },
    message: /^harbor\.driver-auth\.secret-file: .*empty is empty/,
  },
  {
    role: 'proxy',
    config: { harbor: { webhook: { auth: 'header' } } },
    message: /harbor\.webhook\.authorization-file: is missing; auth header needs it/,
  },
  {
    role: 'proxy',
    config: { harbor: { webhook: { auth: 'header', 'authorization-file': 'none' } } },
    message: /^harbor\.webhook\.authorization-file: .*ENOENT/,
  },
  {
    role: 'origin',
    config: { credentials: { nope: { username: 'u', 'password-file': 'passwords' } } },
    message: /^credentials\.nope: the cluster document has no upstream and no replication/,
  },
  {
    role: 'origin',
    config: { credentials: { hub: { username: 'u', 'password-file': 'none' } } },
    message: /^credentials\.hub\.password-file: .*ENOENT/,
  },
  {
    role: 'origin',
    config: { credentials: { hub: { certificate: 'empty', 'key-file': 'empty' } } },
    message: /^credentials\.hub\.certificate: the upstream lets everybody in/,
  },
  {
    role: 'origin',
    config: { credentials: { hub: { helper: 'no-such-helper' } } },
    message: /^credentials\.hub\.helper: there is no program docker-credential-no-such-helper/,
  },
  {
    role: 'origin',
    document: { upstreams: [LOCAL, { ...HUB, ca: 'none.pem' }] },
    message: /^upstreams: ca of hub: .*none\.pem.*ENOENT/,
  },
  {
    role: 'origin',
    document: {
      replication: [{ name: 'r', from: 'local', repositories: ['**'], to: TO, credentials: 'away' }],
    },
    message: /^credentials\.away: is missing; replication\.0/,
  },
  {
    role: 'origin',
    document: {
      replication: [{ name: 'r', from: 'local', repositories: ['**'], to: { ...TO, ca: 'none.pem' } }],
    },
    message: /^replication\.0\.to\.ca: .*none\.pem.*ENOENT/,
  },
  {
    role: 'origin',
    document: { upstreams: [{ ...LOCAL, backend: { s3: S3 } }] },
    message: /^upstreams: local: backend\.s3\.ca: .*ENOENT/,
  },
  {
    role: 'origin',
    config: { records: { engine: 'postgres', 'url-file': 'passwords' } },
    message: /^records\.url-file: .*holds no address/,
  },
  {
    role: 'accelerator',
    config: { credentials: { nope: { username: 'u', 'password-file': 'passwords' } } },
    message: /^credentials\.nope: is no upstream/,
  },
  {
    role: 'accelerator',
    config: { api: { 'authorization-file': 'empty' } },
    message: /^api\.authorization-file: .*empty is empty/,
  },
  ...['0.0.0.0:17299', '[::]:17299', '[0:0::0]:0'].flatMap((wide): Wrong[] => [
    {
      role: 'agent',
      config: { 'peer-listen': [ANY, wide] },
      message: /^advertise: is missing: peer-listen .* is all addresses of this machine; name the address by/,
    },
    {
      role: 'agent',
      config: { advertise: ['node.example:17299', wide] },
      message: /^advertise\.1: nobody reaches .*; name the address by which other nodes reach this one/,
    },
  ]),
  { role: 'agent', config: { advertise: ['node.example:0'] }, message: /^advertise\.0: nobody reaches/ },
];
/** Two addresses of one config that are the same, and which key is told. */
const TWICE: readonly (readonly [Started, object, RegExp])[] = [
  [
    'origin',
    { listen: '127.0.0.1:17299', 'admin-listen': '127.0.0.1:17299' },
    /admin-listen: 127\.0\.0\.1:17299 is taken by listen/,
  ],
  [
    'tracker',
    { listen: '0.0.0.0:17299', 'admin-listen': '127.0.0.1:17299' },
    /admin-listen: .* taken by listen/,
  ],
  [
    'proxy',
    { listeners: [{ listen: '[::]:17299' }, { listen: '127.0.0.1:17299' }] },
    /listeners\.1\.listen: .* taken by listeners\.0\.listen/,
  ],
  [
    'agent',
    { listeners: [{ listen: '127.0.0.1:17299' }], 'peer-listen': [ANY, '127.0.0.1:17299'] },
    /peer-listen\.1: .* taken by listeners\.0\.listen/,
  ],
];

/** A config of a role in a folder of its own, with what it names; `undefined` takes a key away. */
function write(t: Test, role: Started, config: object, document: object): string {
  const dir = t.testdir({ empty: '', passwords: 'ann:secret\n' });
  writeFileSync(join(dir, 'key'), 'ab'.repeat(32), { mode: 0o600 });
  const members = ['origin', 'tracker', 'proxy'].map((one, index) => ({
    id: `${one}-1`,
    role: one,
    urls: [`http://127.0.0.1:${index + 2}`],
  }));
  const file = join(dir, `${role}.yaml`);
  writeFileSync(
    join(dir, 'cluster.yaml'),
    JSON.stringify({ version: 1, members, upstreams: [LOCAL, HUB], ...document }),
  );
  const files = { data: 'data', 'cluster-key-file': 'key', 'cluster-document': 'cluster.yaml' };
  writeFileSync(file, JSON.stringify({ ...files, 'admin-listen': ANY, ...OWN[role], ...config }));
  return file;
}

async function refusal(work: () => Promise<unknown>): Promise<CodedError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof CodedError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

t.test('what a start refuses, the check refuses in the same words', async (t) => {
  let judged = 0;
  for (const { role, config = {}, document = {}, message } of [
    ...WRONG,
    ...TWICE.map(([role, config, message]) => ({ role, config, document: {}, message })),
  ]) {
    const file = write(t, role, config, document);
    const checked = await refusal(async () => await checkFile(file, {}, role));
    const started = await refusal(async () => await STARTS[role](file));
    t.match(checked, { code: 'CONFIG_INVALID' }, `${role}: ${message}`);
    t.match(checked.message.replace(`${file}: `, ''), message, `${role}: ${message}`);
    t.equal(checked.message, started.message, `${role}: ${message}`);
    judged++;
  }
  t.equal(judged, WRONG.length + TWICE.length);
});

t.test(
  'a file that a document names and that is not there, told as by a start where the document is checked alone',
  async (t) => {
    let judged = 0;
    for (const { role, document = {}, message } of WRONG) {
      if (role !== 'origin' || !/\bca\b/.test(message.source)) continue;
      const file = write(t, role, {}, document);
      const started = await refusal(async () => await STARTS[role](file));
      const checked = await refusal(async () => await checkFile(join(dirname(file), 'cluster.yaml'), {}));
      t.match(checked.message, message);
      t.equal(checked.message, started.message);
      judged++;
    }
    t.equal(judged, 3);
  },
);

t.test('what a start takes, the check takes', async (t) => {
  for (const role of ['origin', 'tracker', 'proxy', 'agent', 'accelerator'] as const) {
    const file = write(t, role, {}, {});
    t.match(await checkFile(file, {}, role), role);
    await (await STARTS[role](file)).stop();
  }
  // Names are not resolved, and one port may be bound at two addresses.
  const apart = { listen: '127.0.0.1:17299', 'admin-listen': '127.0.0.2:17299' };
  t.match(await checkFile(write(t, 'tracker', apart, {}), {}, 'tracker'), 'tracker');
});
