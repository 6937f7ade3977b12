import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { parseImageUrl } from '../../../src/harbor/core/image-url.ts';
import { parseJobRequest, parseNotification, parseOldPreheat } from '../../../src/harbor/core/messages.ts';
import { parseWebhook } from '../../../src/harbor/core/webhook.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const UPSTREAMS = [
  { name: 'local', hosts: ['local'] },
  { name: 'harbor', hosts: ['harbor', 'harbor.local', 'harbor.local:8443'] },
];
const TIME_BOX = { numRuns: 2_000, interruptAfterTimeLimit: 2_000, markInterruptAsFailure: false };

const push = (resource: object, extra: object = {}): object => ({
  type: 'PUSH_ARTIFACT',
  occur_at: 1763917200,
  operator: 'robot$library+ci',
  event_data: {
    resources: [{ digest: DIGEST, tag: 'v1', resource_url: 'harbor.local/library/app:v1', ...resource }],
    repository: {
      date_created: 1763900000,
      name: 'app',
      namespace: 'library',
      repo_full_name: 'library/app',
      repo_type: 'private',
    },
    ...extra,
  },
});

t.test('a notification as Harbor sends it, and as distribution does', async (t) => {
  const target = {
    MediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    Digest: DIGEST,
    Repository: 'library/busybox',
    Url: 'http://harbor.local/v2/library/busybox/manifests/latest',
    Tag: 'latest',
  };
  const expected = [{ repository: 'library/busybox', digest: DIGEST, tag: 'latest', url: target.Url }];
  const harbor = { Events: [{ Id: 'x', Action: 'push', Target: target, Request: null, Actor: null }] };
  t.same(parseNotification(harbor), expected);
  const lower = JSON.parse(
    JSON.stringify(harbor).replaceAll(
      /"([A-Z])(\w*)":/g,
      (_, a: string, b: string) => `"${a.toLowerCase()}${b}":`,
    ),
  ) as unknown;
  t.same(parseNotification(lower), expected);
  t.same(parseNotification({ events: [{ action: 'pull', target }] }), []);
  t.same(parseNotification({ events: [] }), []);
});

t.test('a notification that lacks something is refused by field', async (t) => {
  const of = (target: object) => () => parseNotification({ events: [{ action: 'push', target }] });
  t.throws(() => parseNotification({}), /events is not a list/);
  t.throws(of({ digest: DIGEST }), /events\[0\]\.target\.repository is missing/);
  t.throws(of({ repository: 'a/b' }), /names neither digest nor tag/);
  t.throws(of({ repository: 'a/b', digest: 'sha256:1' }), /target\.digest is not a digest/);
  const many = { events: Array.from({ length: 51 }, () => ({ action: 'push' })) };
  t.throws(() => parseNotification(many), /more than 50/);
});

t.test('a job, with its token and every scope', async (t) => {
  const job = (args: object) =>
    parseJobRequest({ type: 'preheat', args: { type: 'image', url: 'u', ...args } });
  t.same(job({ headers: { Authorization: 'Bearer x' }, scope: 'all_peers' }), {
    url: 'u',
    scope: 'all_peers',
    authorization: 'Bearer x',
  });
  t.equal(job({ scope: '' }).scope, 'single_seed_peer');
  t.equal(job({}).scope, 'single_seed_peer');
  t.equal(job({ headers: null }).authorization, undefined);
  t.throws(() => job({ scope: 'some' }), /args\.scope is not one of/);
  t.throws(() => job({ headers: { Authorization: 'a\r\nb: c' } }), /not a header value/);
  t.throws(() => job({ type: 'file' }), /args\.type/);
  for (const url of [undefined, '', 7]) t.throws(() => job({ url }), /args\.url is missing/);
  t.throws(() => parseOldPreheat({ type: 'image' }), /url is missing/);
  t.throws(() => parseOldPreheat({ type: 'file', url: 'u' }), /type is not "image"/);
  t.throws(() => parseJobRequest({ type: 'sync_peers' }), /type is not "preheat"/);
  t.same(parseOldPreheat({ type: 'image', url: 'u', headers: { authorization: 'Basic x' } }), {
    url: 'u',
    scope: 'single_seed_peer',
    authorization: 'Basic x',
  });
});

t.test('the URL of a manifest names upstream, repository and reference', async (t) => {
  const parse = (url: string) => parseImageUrl(url, UPSTREAMS, 'local').image;
  t.match(parse('https://harbor.local/v2/library/a/b/manifests/v1'), {
    upstream: 'harbor',
    repository: 'library/a/b',
    reference: { kind: 'tag', tag: 'v1' },
  });
  t.match(parse(`http://harbor.local:8443/v2/a/b/manifests/${DIGEST}`), { reference: { digest: DIGEST } });
  t.match(parse('https://harbor.local:443/v2/a/b/manifests/v1'), { upstream: 'harbor' }, 'the default port');
  t.match(parse('/v2/a/b/manifests/v1'), { upstream: 'local' });
  t.throws(() => parse('https://evil.test/v2/a/b/manifests/v1'), { code: 'UPSTREAM_UNKNOWN' });
  t.throws(() => parse('https://harbor.local/v2/a/b/manifests/-v1'), { code: 'TAG_INVALID' });
  t.throws(() => parse('https://harbor.local/v2/A/b/manifests/v1'), { code: 'NAME_INVALID' });
  for (const bad of [
    '',
    'x',
    '//harbor.local/v2/a/manifests/b',
    'ftp://harbor.local/v2/a/b/manifests/v',
    '/v2/a',
    '/v2/%ff/manifests/v',
  ])
    t.throws(() => parse(bad), CodedError, bad);
});

t.test('what is kept of a URL: no query, no user, at most 2 KiB', async (t) => {
  const url = (text: string) => parseImageUrl(text, UPSTREAMS, 'local').url;
  t.equal(
    url('https://harbor.local/v2/a/b/manifests/v1?token=x#y'),
    'https://harbor.local/v2/a/b/manifests/v1',
  );
  t.equal(url('https://harbor.local:443/v2/a/%62/manifests/v1'), 'https://harbor.local/v2/a/b/manifests/v1');
  t.equal(url('/v2/a/b/manifests/v1?token=x'), '/v2/a/b/manifests/v1');
  for (const user of ['user', 'user:secret', ':secret'])
    t.throws(() => url(`https://${user}@harbor.local/v2/a/b/manifests/v1`), {
      code: 'REQUEST_INVALID',
      message: /^url has a user or password(?!.*secret)/,
    });
  const long = (bytes: number) => '/v2/a/b/manifests/v1?'.padEnd(bytes, 'q');
  t.equal(url(long(2_048)), '/v2/a/b/manifests/v1');
  t.throws(() => url(long(2_049)), { code: 'REQUEST_INVALID', message: /longer than 2048 bytes/ });
});

t.test('webhooks: a push with tag; the digest in place of a tag; slashes in the name', async (t) => {
  t.match(parseWebhook(push({})), [
    { kind: 'push', host: 'harbor.local', repository: 'library/app', digest: DIGEST, tag: 'v1' },
  ]);
  const untagged = push({ tag: DIGEST, resource_url: `harbor.local:8443/library/app@${DIGEST}` });
  t.match(parseWebhook(untagged), [{ host: 'harbor.local:8443', digest: DIGEST, tag: undefined }]);
  const deep = push(
    { resource_url: 'harbor.local/library/a/b/c:v1' },
    { repository: { name: 'a/b/c', namespace: 'library', repo_full_name: 'library/a/b/c' } },
  );
  t.match(parseWebhook(deep), [{ repository: 'library/a/b/c', host: 'harbor.local' }]);
});

t.test('webhooks: a resource_url that is not of the repository is told as what it should be', async (t) => {
  for (const url of ['harbor.local/library/other:v1', 'library/app:v1', '/library/app:v1', '', 7])
    t.throws(() => parseWebhook(push({ resource_url: url })), {
      code: 'REQUEST_INVALID',
      message:
        'event_data.resources[0].resource_url is not HOST[:PORT]/REPOSITORY:TAG of the repository that repo_full_name names',
    });
});

t.test('webhooks: what lacks something is refused by field', async (t) => {
  const refused = (value: object, message: string | RegExp): void =>
    void t.throws(() => parseWebhook(value), { code: 'REQUEST_INVALID', message });
  for (const resources of [undefined, [], {}])
    refused(push({}, { resources }), 'event_data.resources is not a list with entries');
  const many = Array.from({ length: 101 }, () => ({}));
  refused(push({}, { resources: many }), 'event_data.resources has 101 entries; at most 100 are taken');
  refused(
    push({}, { repository: { repo_full_name: 'Library/App' } }),
    /repo_full_name is not a repository name/,
  );
  refused(push({ digest: 'sha256:1' }), 'event_data.resources[0].digest is not a digest');
  for (const tag of [undefined, 'no tag'])
    refused(push({ digest: undefined, tag }), 'event_data.resources[0] names neither digest nor tag');
  for (const at of [undefined, '1763917200', Number.NaN])
    refused({ ...push({}), occur_at: at }, 'occur_at is not a number');
  refused({ ...push({}), type: 7 }, 'type is not text');
});

t.test('webhooks: a tag alone names what was pushed, and so does a digest in its place', async (t) => {
  t.match(parseWebhook(push({ digest: undefined })), [{ digest: undefined, tag: 'v1' }]);
  t.match(parseWebhook(push({ digest: undefined, tag: DIGEST })), [{ digest: DIGEST, tag: undefined }]);
});

t.test('webhooks: CloudEvents say the same; their id is what repeats', async (t) => {
  const data = (push({}) as { event_data: object }).event_data;
  const cloud = {
    specversion: '1.0',
    id: '4b2f-1',
    source: '/projects/1/webhook/policies/2',
    type: 'harbor.artifact.pushed',
    time: '2026-11-23T17:00:00Z',
    datacontenttype: 'application/json',
    requestid: 'r',
    operator: 'admin',
    data,
  };
  const [first] = parseWebhook(cloud);
  t.match(first, { kind: 'push', repository: 'library/app', tag: 'v1' });
  t.equal(parseWebhook({ ...cloud, time: 'later' })[0]?.key, first?.key);
  t.not(parseWebhook({ ...cloud, id: 'other' })[0]?.key, first?.key);
  t.equal(parseWebhook({ ...cloud, type: 'harbor.artifact.deleted' })[0]?.kind, 'delete');
  t.same(parseWebhook({ ...cloud, type: 'harbor.quota.warned' }), []);
  t.throws(() => parseWebhook({ ...cloud, id: undefined }), /id is missing/);
});

t.test('webhooks: the default format repeats by type, digest, tag and time', async (t) => {
  const key = (value: object): string | undefined => parseWebhook(value)[0]?.key;
  t.equal(key(push({})), key({ ...push({}), operator: 'other' }));
  t.not(key(push({})), key({ ...push({}), occur_at: 1763917201 }));
  t.not(key(push({})), key(push({ tag: 'v2' })));
  t.not(key(push({})), key({ ...push({}), type: 'DELETE_ARTIFACT' }));
});

t.test('webhooks: other kinds are nothing to do, whatever they carry', async (t) => {
  for (const type of [
    'PULL_ARTIFACT',
    'REPLICATION',
    'QUOTA_EXCEED',
    'SCANNING_COMPLETED',
    'TAG_RETENTION',
    'toString',
    '__proto__',
  ])
    t.same(parseWebhook({ type, event_data: 7 }), [], type);
});

t.test('fuzz: nothing that may come throws anything but a coded 400 or 404', async () => {
  const bits = fc.oneof(
    fc.json(),
    fc.constantFrom(
      'PUSH_ARTIFACT',
      'harbor.artifact.pushed',
      DIGEST,
      'v1',
      'library/app',
      'push',
      'preheat',
      'image',
    ),
  );
  const keys = fc.constantFrom(
    ...[
      'Events',
      'events',
      'Action',
      'target',
      'Digest',
      'Repository',
      'Tag',
      'Url',
      'type',
      'occur_at',
      'event_data',
    ],
    ...[
      'data',
      'specversion',
      'id',
      'resources',
      'repository',
      'repo_full_name',
      'resource_url',
      'args',
      'url',
      'scope',
      'headers',
    ],
  );
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      bits,
      fc.integer(),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(keys, tie('tree'), { maxKeys: 8 }),
    ),
  }));
  for (const parse of [parseNotification, parseJobRequest, parseOldPreheat, parseWebhook]) {
    fc.assert(
      fc.property(tree, (value) => {
        try {
          parse(value);
        } catch (error) {
          return error instanceof CodedError && error.code === 'REQUEST_INVALID';
        }
        return true;
      }),
      TIME_BOX,
    );
  }
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.webUrl(), fc.webPath()), (url) => {
      try {
        parseImageUrl(url, UPSTREAMS, 'local');
      } catch (error) {
        return error instanceof CodedError && error.facts.status < 500;
      }
      return true;
    }),
    TIME_BOX,
  );
});
