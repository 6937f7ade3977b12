import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { digestOf } from '../client.ts';
import { Content, type Made } from '../collect/content.ts';
import { type Sum, Worker } from '../collect/worker.ts';

function image(text: string, more: Partial<Made> = {}): Made {
  const bytes = Buffer.from(text);
  const facts = { mediaType: 'application/vnd.oci.image.manifest.v1+json', blobs: [], children: [] };
  return { digest: digestOf(bytes), bytes, subject: undefined, ...facts, ...more };
}

const digests = (found: ReadonlyMap<string, Made>): string[] =>
  [...found.values()].map(({ bytes }) => String(bytes)).sort();

t.test('what tags, their history, indexes and subjects lead to must stay; all else may not', async (t) => {
  const content = new Content();
  const [old, now, child, lone] = [image('old'), image('now'), image('child'), image('lone')];
  const index = image('index', { children: [child.digest] });
  const signature = image('signature', { subject: old.digest });
  content.pushed(old, 'v1');
  content.pushed(now, 'v1');
  content.pushed(child, undefined);
  content.pushed(index, 'all');
  content.pushed(lone, undefined);
  content.pushed(signature, undefined);
  t.same(digests(content.mustStay()), ['child', 'index', 'now', 'old', 'signature']);
  t.same(digests(content.mayStay()), ['child', 'index', 'now', 'old', 'signature']);

  content.deleted(old.digest);
  t.same(digests(content.mustStay()), ['child', 'index', 'now'], 'a referrer does not keep its subject');
  content.untagged('all');
  t.same(digests(content.mayStay()), ['now']);
  content.pushed(image('index anew'), 'all');
  t.same(digests(content.mustStay()), ['index anew', 'now']);
  t.same(
    digests(content.mayStay()),
    ['child', 'index', 'index anew', 'now'],
    'a tag that came back may be rolled back to before',
  );
  t.same([...content.tags.keys()], ['v1', 'all']);
});

t.test('a manifest that is pushed again after its delete is referenced again', async (t) => {
  const content = new Content();
  const [one, two] = [image('one'), image('two')];
  content.pushed(one, 'v1');
  content.pushed(two, 'v1');
  content.deleted(one.digest);
  t.same(digests(content.mustStay()), ['two']);
  content.pushed(one, 'v2');
  t.same(digests(content.mustStay()), ['one', 'two']);
  content.deleted(two.digest);
  t.same([...content.tags.keys()], ['v2'], 'the tag that pointed at it went with it');
  t.same(digests(content.mustStay()), ['one']);
});

t.test('what is gone, other bytes, and what is served that should be gone are found', async (t) => {
  const answers = new Map<string, { status: number; body: string }>();
  const server = createServer((request, response) => {
    const { status, body } = answers.get(request.url!.split('/').at(-1)!) ?? { status: 404, body: '' };
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const proxies = [`http://127.0.0.1:${(server.address() as AddressInfo).port}`];
  const sum: Sum = { lost: 0, corrupt: 0, kept: 0, operations: 0, repeats: 0, texts: [] };
  const facts = { name: 'w', repository: 'team/app', others: ['team/b'], proxies, seed: 1, sum };
  const worker = new Worker(facts);
  const layer = digestOf(Buffer.from('layer'));
  const made = image('made', { blobs: [layer] });
  worker.content.pushed(made, 'v1');
  answers.set('v1', { status: 200, body: 'made' });
  answers.set(layer, { status: 200, body: 'layer' });
  await worker.readTags();
  t.match(sum, { lost: 0, corrupt: 0, kept: 0 });

  answers.set(layer, { status: 200, body: 'another' });
  await worker.readTags();
  t.match(sum, { lost: 0, corrupt: 1 });
  answers.delete(layer);
  await worker.readTags();
  t.match(sum, { lost: 1, corrupt: 1 });
  t.match(sum.texts, [/^CORRUPT/, /^LOST/]);
  t.same(await worker.keptOf(`blobs/${layer}`), []);
  t.match(await worker.keptOf('manifests/v1'), [/^KEPT/]);
});
