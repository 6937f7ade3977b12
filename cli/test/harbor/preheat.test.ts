import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { sepia } from '../support/sepia.ts';

/** A proxy that tells a job's states one after the other. */
async function fakeProxy(t: Test, states: readonly object[]) {
  const seen: { method: string; url: string; body: string; header: string | undefined }[] = [];
  let turn = 0;
  const server = createServer((req, res) => {
    let body = '';
    req.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    req.on('end', () => {
      seen.push({
        method: req.method ?? '',
        url: req.url ?? '',
        body,
        header: req.headers['x-sepia'] as string,
      });
      const state = states[Math.min(turn++, states.length - 1)]!;
      res
        .writeHead('errors' in state ? ((state as { status?: number }).status ?? 404) : 200, {
          'content-type': 'application/json',
        })
        .end(JSON.stringify(state));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

const job = (state: string, rows: object[], error = ''): object => ({
  id: 4097,
  state,
  result: { job_states: [{ error, results: [] }] },
  sepia: { rows, moreRows: 0 },
});
const row = (id: string, role: string, state: string, extra: object = {}): object => ({
  id,
  role,
  state,
  ...extra,
});

t.test('it tells of each origin and node as it ends, and exits 0', async (t) => {
  const { url, seen } = await fakeProxy(t, [
    job('PENDING', []),
    job('PENDING', [
      row('origin-1', 'origin', 'done', { doneBytes: 1_048_576 }),
      row('n1', 'agent', 'running'),
    ]),
    job('SUCCESS', [row('origin-1', 'origin', 'done'), row('n1', 'agent', 'done', { doneBytes: 1_048_576 })]),
  ]);
  const dir = t.testdir({ header: 'X-Sepia: s3cret\n' });
  const { code, out, err } = await sepia(
    'preheat',
    'harbor.test/library/app:v1',
    '--proxy',
    url,
    '--header-file',
    join(dir, 'header'),
  );
  t.equal(code, 0, err);
  t.match(out, /origin-1 .*done +1\.0 MiB/);
  t.equal(out.match(/n1 /g)?.length, 1, 'once');
  t.match(out, /preheated: 1 origins, 1 nodes in/);
  t.match(JSON.parse(seen[0]!.body), {
    type: 'preheat',
    args: { url: 'http://harbor.test/v2/library/app/manifests/v1', scope: 'all_peers' },
  });
  t.ok(seen.every(({ header }) => header === 's3cret'));
  t.equal(seen[1]?.url, '/oapi/v1/jobs/4097');
});

t.test('a failure is told with its node and exits 1', async (t) => {
  const failed = row('n2', 'agent', 'failed', { description: 'DISK_FULL: disk is full' });
  const { url, seen } = await fakeProxy(t, [
    job('PENDING', []),
    job('FAILURE', [failed], '1 of 1 nodes failed'),
  ]);
  const { code, out } = await sepia('preheat', 'library/app', '--scope', 'copies', '--proxy', url);
  t.equal(code, 1);
  t.match(out, /n2 +failed: DISK_FULL/);
  t.match(out, /preheat failed after .*1 of 1 nodes failed/);
  t.match(JSON.parse(seen[0]!.body), {
    args: { url: '/v2/library/app/manifests/latest', scope: 'all_seed_peers' },
  });
});

t.test('what is refused is one line that says why', async (t) => {
  const { url } = await fakeProxy(t, [{ errors: [{ message: 'no upstream answers to evil.test' }] }]);
  const refused = await sepia('preheat', 'evil.test/a/b:v1', '--proxy', url);
  t.not(refused.code, 0);
  t.match(refused.err, /REQUEST_INVALID.*answers 404: no upstream answers to evil\.test/);
  const busy = await fakeProxy(t, [{ status: 503, errors: [{ message: 'no origin answers' }] }]);
  const failed = await sepia('preheat', 'a/b:v1', '--proxy', busy.url);
  t.match(
    failed.err,
    /REGISTRY_DOWN.*answers 503: no origin answers/,
    'nothing is wrong with what was asked',
  );
  t.match(
    (await sepia('preheat', 'a/b', '--scope', 'all')).err,
    /--scope: "all" is not one of origins, copies, nodes/,
  );
  t.match(
    (await sepia('preheat', 'a/b', '--header-file', '/nowhere')).err,
    /--header-file: .* cannot be read/,
  );
});
