import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
  sha256,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

t.test('a blob larger than max-blob is refused in every form of upload', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 0,
    trackers: 0,
    origin: { 'max-blob': MIB },
  });
  const url = cluster.proxyUrls[0]!;
  const large = randomBytes(MIB + 1);
  const begin = async (): Promise<URL> => {
    const begun = await request(`${url}/v2/a/b/blobs/uploads/`, { method: 'POST' });
    await begun.body.dump();
    return new URL(String(begun.headers['location']), url);
  };
  const withDigest = (target: URL, bytes: Buffer): URL => {
    target.searchParams.set('digest', sha256(bytes));
    return target;
  };
  const forms = {
    'one POST': () =>
      request(withDigest(new URL(`${url}/v2/a/b/blobs/uploads/`), large), { method: 'POST', body: large }),
    'POST and PUT': async () => request(withDigest(await begin(), large), { method: 'PUT', body: large }),
    'PATCH without length': async () =>
      request(await begin(), {
        method: 'PATCH',
        body: Readable.from([large.subarray(0, MIB), large.subarray(MIB)]),
      }),
    'the second PATCH': async () => {
      const first = await request(await begin(), { method: 'PATCH', body: large.subarray(0, MIB) });
      await first.body.dump();
      t.equal(first.statusCode, 202, 'what is not too large is taken');
      return request(new URL(String(first.headers['location']), url), {
        method: 'PATCH',
        body: large.subarray(MIB),
      });
    },
  };
  for (const [form, send] of Object.entries(forms)) {
    const answer = await send();
    const { errors } = (await answer.body.json()) as { errors: { code: string; message: string }[] };
    t.equal(answer.statusCode, 413, form);
    t.equal(errors[0]?.code, 'SIZE_INVALID', form);
    t.match(errors[0]?.message, /max-blob/, form);
  }
  const image = randomImage([MIB]);
  await pushUntilTaken(() => url, 'a/b', 'v1', image);
  t.ok((await pullUntilGiven(url, 'a/b', 'v1')) > MIB, 'a blob of just that size is taken');
});

t.test('one address that asks too often waits, then gets 429; members are not counted', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    proxies: 1,
    proxy: { limits: { 'requests-per-second': 5 } },
  });
  const url = cluster.proxyUrls[0]!;
  const answers = await Promise.all(Array.from({ length: 60 }, () => request(`${url}/v2/`)));
  const refused = answers.filter((answer) => answer.statusCode === 429);
  for (const answer of answers) await answer.body.dump();
  t.ok(refused.length > 0 && refused.length < 60, `${refused.length} of 60 refused`);
  t.ok(refused.every((answer) => Number(answer.headers['retry-after']) >= 1));
  const agent = cluster.agents[0]!.url;
  const asked = await Promise.all(
    Array.from({ length: 40 }, () => request(`${agent}/v2/a/b/manifests/none`)),
  );
  for (const answer of asked) await answer.body.dump();
  t.ok(
    asked.every((answer) => answer.statusCode === 404),
    'an agent never answers 429',
  );
});
