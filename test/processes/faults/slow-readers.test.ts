import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { callUntilAnswered, pushBlob } from '@sepia/test-support/clients/registry-calls';
import { until } from '@sepia/test-support/until';
import { metricBySource, Up, type UpMember } from '@sepia/test-support/up';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';

const MIB = 1024 * 1024;
/** More than sockets take in by themselves. */
const SIZE = 8 * MIB;
/** Who reads, and what each takes before it stops: from nothing on. */
const SLOW = { readers: 100, takes: 64 * 1024 };
const SILENT = { readers: 300, takes: 0 };
/** Growth of a process while they hold their bodies; without a bound a reader held 2 MiB, so 200 or 600. In MiB. */
const MOST_MIB = 96;
/** Of another blob, read from beginning to end while they take what their sockets hold: some 4 MiB each. */
const OTHER_SIZE = 3 * MIB;
/** What a door gives them meanwhile: without turns of its own who reads the other is the last of 300, window by window. In MiB. */
const MOST_MEANWHILE_MIB = 512;
/** What may be left of it when they have gone, and how long that may take to go: a minute, on a busy machine more. */
const LEFT_MIB = 32;
const LEFT_MS = 240_000;
/** How long sockets to origins may outlive their last use, and what is still under way on a busy machine. In ms. */
const FREE_MS = 150_000;

t.test(
  'those who read one blob slowly hold little, and nothing beyond the door',
  { timeout: 900_000 },
  async (t) => {
    const topology = ['--origins', '3', '--trackers', '1', '--proxies', '1', '--agents', '1'];
    await using up = await Up.start(join(t.testdir(), 'data'), [
      ...topology,
      ...['--upstream', 'local=none', '--ports-from', '28500'],
    ]);
    const { origins, proxies, agents } = up.cluster;
    const content = Buffer.from(seededBytes(SIZE, 'slow'));
    const digest = await pushBlob(proxies[0]!.url, 'team/app', content);
    const other = Buffer.from(seededBytes(OTHER_SIZE, 'other'));
    const otherDigest = await pushBlob(proxies[0]!.url, 'team/app', other);
    const members = [...origins, ...proxies, ...agents];

    for (const { pid, name } of members)
      t.match(
        readFileSync(`/proc/${pid}/environ`, 'utf8'),
        /\0MALLOC_MMAP_THRESHOLD_=32768\0/,
        `${name} gives buffers back to the system when they are freed`,
      );
    const cases = [
      { door: agents[0]!, ...SLOW },
      { door: proxies[0]!, ...SILENT },
    ];
    for (const { door, readers, takes } of cases)
      await t.test(`${readers} at ${door.name} who take ${takes} bytes`, async (t) => {
        const url = `${door.url}/v2/team/app/blobs/${digest}`;
        t.ok((await callUntilAnswered('GET', url)).bytes.equals(content), 'one who is quick');
        const before = members.map((member) => rssMiB(member));
        const socketsBefore = origins.map(socketCount);
        const beyond = (mostMiB: number): string[] =>
          members.flatMap((member, at) => {
            const mib = Math.round(rssMiB(member) - before[at]!);
            return mib > mostMiB ? [`${member.name} +${mib} MiB`] : [];
          });
        const slow = await Promise.all(Array.from({ length: readers }, async () => await take(url, takes)));
        t.same(
          slow
            .filter(({ response }) => response.statusCode !== 200)
            .map(({ response }) => response.statusCode),
          [],
          'nobody was refused',
        );
        const given = await sentMiB(door);
        const [honest, catalog] = await Promise.all([
          callUntilAnswered('GET', `${door.url}/v2/team/app/blobs/${otherDigest}`),
          callUntilAnswered('GET', `${proxies[0]!.url}/v2/_catalog`),
        ]);
        t.ok(honest.bytes.equals(other), 'who reads another blob gets it');
        const meanwhile = Math.round((await sentMiB(door)) - given);
        t.ok(meanwhile < MOST_MEANWHILE_MIB, `and is not the last: ${meanwhile} MiB went to the others`);
        t.same(catalog.json<{ repositories: unknown }>().repositories, ['team/app']);
        t.ok(
          slow.every(({ bytes }) => bytes.equals(content.subarray(0, bytes.length))),
          'right bytes',
        );
        t.same(beyond(MOST_MIB), [], 'while they hold their bodies');
        // Whoever does not read holds nothing beyond the door: not for as long as the client stays.
        await until(
          () => origins.every((origin, at) => socketCount(origin) <= socketsBefore[at]! + readers / 10),
          'sockets of origins are free',
          FREE_MS,
        );
        t.same(beyond(MOST_MIB), [], 'while they do not read');
        for (const { response } of slow) response.destroy();
        await until(() => beyond(LEFT_MIB).length === 0, 'their memory is given back', LEFT_MS);
      });
  },
);

interface Taken {
  readonly response: IncomingMessage;
  readonly bytes: Buffer;
}

/** The first bytes of a body, at least so many; the rest waits. */
async function take(url: string, atLeast: number): Promise<Taken> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { agent: false }, resolve).once('error', reject);
  });
  const chunks: Buffer[] = [];
  if (atLeast === 0) return { response, bytes: Buffer.alloc(0) };
  await new Promise<void>((resolve) => {
    let taken = 0;
    response.once('close', resolve);
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      taken += chunk.length;
      if (taken < atLeast) return;
      response.pause();
      resolve();
    });
  });
  return { response, bytes: Buffer.concat(chunks) };
}

/** What a door has sent so far; of an agent, what it read for its clients. */
async function sentMiB({ adminUrl, name }: UpMember): Promise<number> {
  const metric = name.startsWith('proxy') ? 'sepia_proxy_bytes_total' : 'sepia_agent_bytes_total';
  const sent = Object.values(await metricBySource(adminUrl, metric));
  return sent.reduce((sum, bytes) => sum + bytes, 0) / MIB;
}

function rssMiB({ pid }: UpMember): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

function socketCount({ pid }: UpMember): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => isSocket(`/proc/${pid}/fd/${fd}`)).length;
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('socket:');
  } catch (error) {
    // Closed since the list was read.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
