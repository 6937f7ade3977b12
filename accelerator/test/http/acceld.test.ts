import type { ConversionJob } from '@sepia/cluster/api/conversions';
import t from 'tap';
import { acceldTask, parseAcceldRequest } from '../../src/http/acceld.ts';

t.test('requests as the documents of acceleration-service have them', async (t) => {
  const url = 'harbor.example/library/nginx:1';
  const resources = [{ resource_url: url }];
  t.same(
    parseAcceldRequest({ type: 'PUSH_ARTIFACT', event_data: { resources } }),
    [url],
    'the least that it takes',
  );
  t.same(
    parseAcceldRequest({ specversion: '1.0', type: 'harbor.artifact.pushed', data: { resources } }),
    [url],
    'CloudEvents',
  );
  t.equal(parseAcceldRequest({ type: 'DELETE_ARTIFACT' }), undefined, 'other kinds mean nothing');
  t.same(parseAcceldRequest({}), { wrong: 'type is missing or no text' });
  t.same(parseAcceldRequest([]), { wrong: 'type is missing or no text' });
  t.same(parseAcceldRequest({ type: 'PUSH_ARTIFACT', event_data: { resources: [] } }), {
    wrong: 'event_data.resources is not a list of 1 to 100',
  });
  t.same(parseAcceldRequest({ type: 'PUSH_ARTIFACT', event_data: { resources: [{ resource_url: 5 }] } }), {
    wrong: 'event_data.resources[0].resource_url is not HOST/REPOSITORY:TAG',
  });
});

t.test('jobs in its words', async (t) => {
  const payload = {
    kind: 'convert',
    rule: 'all',
    upstream: 'harbor',
    repository: 'library/nginx',
    tag: '1',
  } as const;
  const job = (fields: Partial<ConversionJob>): ConversionJob => ({
    id: '1-a',
    key: 'k',
    payload,
    state: 'waiting',
    addedAtMs: 0,
    notBeforeMs: 0,
    tries: 0,
    ...fields,
  });
  const view = (fields: Partial<ConversionJob>): object => acceldTask(job(fields), () => 'harbor.example');
  t.match(view({}), {
    status: 'PROCESSING',
    finished: null,
    created: '1970-01-01T00:00:00.000Z',
    source: 'harbor.example/library/nginx:1',
  });
  t.match(view({ state: 'running', tries: 2, error: 'why' }), {
    status: 'PROCESSING',
    reason: 'why',
    tries: 2,
  });
  const nothing = { outcome: 'skipped', reason: 'library/nginx:1 is gone', isSourceGone: true } as const;
  t.match(
    view({ state: 'done', endedAtMs: 1_000, result: nothing }),
    { status: 'FAILED', reason: nothing.reason },
    'a tag that does not exist was not converted',
  );
  const result = { outcome: 'converted', sourceBytes: 5, targetBytes: 6, digest: 'sha256:x' } as const;
  t.match(view({ state: 'done', endedAtMs: 1_000, result }), {
    status: 'COMPLETED',
    source_size: 5,
    target_size: 6,
    reason: '',
    digest: 'sha256:x',
  });
  t.match(view({ state: 'dead', error: 'why' }), { status: 'FAILED', reason: 'why' });
  t.match(view({ state: 'cancelled' }), { status: 'FAILED', reason: 'cancelled' });
});
