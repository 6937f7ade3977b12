import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { FloorMember } from './support/load/floor-member.ts';
import { startRegistry } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { inRounds, makeImage, Side } from './support/push-side.ts';
import { type BenchContext, runBench } from './support/run.ts';

const PROGRAM = join(import.meta.dirname, 'support/load/floor-member.ts');
const ORIGINS = 3;
/** A process of the floor. */
class Member {
  readonly child: ChildProcess;
  readonly url: string;
  readonly #lines: Interface;

  constructor(child: ChildProcess, lines: Interface, url: string) {
    this.child = child;
    this.#lines = lines;
    this.url = url;
  }

  /** Tells it whom it calls. */
  async meet(others: readonly Member[]): Promise<void> {
    const ready = once(this.#lines, 'line');
    this.child.stdin?.write(`${JSON.stringify(others.map(({ url }) => url))}\n`);
    await ready;
  }
}

await runBench({
  id: 'small-pushes-floor',
  claim:
    'what small-pushes costs this machine without Sepia: a proxy and three origins in plain Node make as many calls, files and syncs, without signatures, routes or records',
  options: { images: 1_000, 'at-once': 8, size: 10, sync: 1 },
  run: async (context) => {
    const { stops, dir, number, say } = context;
    const atOnce = number('at-once');
    const images = Array.from({ length: number('images') }, (_, at) => makeImage(at, number('size') * 1024));
    const registry = await startRegistry(stops, dir);
    const origins = await Promise.all(
      Array.from({ length: ORIGINS }, (_, at) => startMember(context, `origin-${at}`, 'origin')),
    );
    const proxy = await startMember(context, 'proxy', 'proxy');
    for (const one of [proxy, ...origins]) await one.meet(origins.filter((other) => other !== one));
    const pids = [proxy, ...origins].map(({ child }) => child.pid!);
    const floor = new Side(proxy.url, pids, atOnce);
    const plain = new Side(registry.url, [registry.pid], atOnce);
    stops.push('connections', async () => {
      await Promise.all([floor.close(), plain.close()]);
    });
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    await inRounds(images, say, async (part) => {
      await plain.pushAll(part);
      await floor.pushAll(part);
    });
    return {
      images: images.length,
      atOnce,
      floor: floor.figures(),
      registry: plain.figures(),
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
    };
  },
});

async function startMember(
  { dir, stops, number }: BenchContext,
  name: string,
  role: FloorMember['role'],
): Promise<Member> {
  const own = join(dir, name);
  mkdirSync(own);
  const told: FloorMember = { role, dir: own, isSynced: number('sync') > 0 };
  const child = spawn(process.execPath, [PROGRAM, JSON.stringify(told)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  stops.push(name, async () => {
    child.stdin?.end();
    await once(child, 'exit');
  });
  const lines = createInterface(child.stdout!);
  const [url] = (await once(lines, 'line')) as [string];
  return new Member(child, lines, url);
}
