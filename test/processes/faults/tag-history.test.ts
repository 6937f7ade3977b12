import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { SEED, seeded } from '@sepia/test-support/seeded';
import { findTagAnomaly, type TagInput, type TagOperation } from '@sepia/test-support/tag-model';
import { Up, type UpMember } from '@sepia/test-support/up';
import t from 'tap';

/** How long clients work while members die and halt. */
const WORK_MS = Number(process.env['WORK_MS'] ?? 25_000);
const CLIENTS = 4;
const TAGS = ['latest', 'stable'];
const REQUEST_MS = 8_000;
/** `sepia up` gives a restarted member 60 s, and after that another try. */
const READY_MS = 180_000;

function manifest(text: string): { bytes: string; digest: string } {
  const body = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], annotations: { text } };
  const bytes = JSON.stringify(body);
  return { bytes, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` };
}

t.test(`kill -9 and SIGSTOP of origins and proxies: tags stay linearizable (SEED=${SEED})`, async (t) => {
  const chance = seeded(SEED);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(chance() * list.length)]!;
  const topology = ['--origins', '5', '--proxies', '3', '--trackers', '1', '--agents', '0', '--restart'];
  await using up = await Up.start(join(t.testdir(), 'data'), [...topology, '--ports-from', '24000']);
  const { origins, proxies } = up.cluster;
  const history: TagOperation[] = [];
  const startedMs = performance.now();
  const endMs = startedMs + WORK_MS;

  const operate = async (client: string, tag: string, input: TagInput, text: string): Promise<void> => {
    const operation: TagOperation = {
      client,
      tag,
      input,
      beganAt: performance.now(),
      endedAt: Number.POSITIVE_INFINITY,
    };
    history.push(operation);
    const url = `${pick(proxies).url}/v2/team/app/manifests/${tag}`;
    const signal = AbortSignal.timeout(REQUEST_MS);
    try {
      if (input.type === 'read') {
        const answer = await fetch(url, { headers: { accept: OCI_MANIFEST }, signal });
        await answer.arrayBuffer();
        if (answer.status !== 200 && answer.status !== 404) return;
        const value = answer.status === 404 ? '' : answer.headers.get('docker-content-digest')!;
        operation.output = { type: 'value', value };
      } else if (input.type === 'set') {
        const headers = { 'content-type': OCI_MANIFEST };
        const answer = await fetch(url, { method: 'PUT', headers, body: manifest(text).bytes, signal });
        await answer.arrayBuffer();
        if (answer.status !== 201) return;
        operation.output = { type: 'done' };
      } else {
        const answer = await fetch(url, { method: 'DELETE', signal });
        await answer.arrayBuffer();
        // A proxy that asks a second origin may hear "gone" of its own first try: 404 tells nothing of who did it, 202
        // that the tag is or will be gone, be it that nothing was there. A halted origin may make it a little later.
        if (answer.status === 202) operation.output = { type: 'done' };
        return;
      }
      operation.endedAt = performance.now();
    } catch {
      // No answer: it may have happened, or happen yet.
    }
  };

  let kills = 0;
  let halts = 0;
  /** Until both have been, also where a member is slow to come back. */
  const goesOn = (): boolean => performance.now() < endMs || kills === 0 || halts === 0;
  const work = async (client: string): Promise<void> => {
    for (let step = 0; goesOn(); step++) {
      const text = `${client}.${step}`;
      const dice = chance();
      const input: TagInput =
        dice < 0.5
          ? { type: 'read' }
          : dice < 0.9
            ? { type: 'set', digest: manifest(text).digest }
            : { type: 'remove' };
      await operate(client, pick(TAGS), input, text);
      await delay(100 + chance() * 300);
    }
  };
  const strike = async (): Promise<void> => {
    while (goesOn()) {
      const victim = up.member(pick(chance() < 0.7 ? origins : proxies).name);
      // The first two are one of each; chance decides from there on.
      const isKill = kills === 0 || (halts > 0 && chance() < 0.5);
      if (isKill) {
        if (signalTo(victim, 'SIGKILL')) kills += 1;
      } else if (signalTo(victim, 'SIGSTOP')) {
        halts += 1;
        await delay(500 + chance() * 2_500);
        signalTo(victim, 'SIGCONT');
      }
      await ready(victim);
    }
  };
  const striking = strike();
  await Promise.all(Array.from({ length: CLIENTS }, (_, at) => work(`c${at}`)));
  await striking;
  for (const member of [...origins, ...proxies]) await ready(member);
  for (const tag of TAGS) await operate('end', tag, { type: 'read' }, '');

  const answered = history.filter((one) => one.output !== undefined).length;
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
  t.comment(`${answered} of ${history.length} answered, ${kills} kills, ${halts} halts, ${seconds} s`);
  t.ok(kills > 0 && halts > 0, `${kills} kills, ${halts} halts`);
  t.ok(answered > history.length * 0.5, `${answered} of ${history.length} operations were answered`);
  t.equal(anomalyOf(history), undefined, `linearizable (SEED=${SEED})`, { history: JSON.stringify(history) });
});

/** As `findTagAnomaly`; a search without an end is one too: the history says more than its stack. */
function anomalyOf(history: readonly TagOperation[]): string | undefined {
  try {
    return findTagAnomaly(history);
  } catch (error) {
    return String(error);
  }
}

/** False if the process is gone: one that was started again is in `cluster.json` a moment later. */
function signalTo(member: UpMember, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(member.pid, signal);
  } catch {
    return false;
  }
}

async function ready(member: UpMember): Promise<void> {
  const deadline = Date.now() + READY_MS;
  for (;;) {
    const signal = AbortSignal.timeout(2_000);
    const isReady = await fetch(`${member.adminUrl}/readyz`, { signal }).then(
      (answer) => answer.ok,
      () => false,
    );
    if (isReady) return;
    if (Date.now() > deadline) throw new Error(`${member.name} does not come back`);
    await delay(50);
  }
}
