import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { freePort, TESTBED } from '@sepia/test-support/testbed';

const READY_MS = 10_000;

/** A slow, far link in front of a server of this machine. */
export class SlowLink {
  readonly port: number;
  readonly #child: ChildProcess;
  #printed = '';

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#printed += text;
    });
  }

  static async start(target: number, far: { megabytes: number; delayMs: number }): Promise<SlowLink> {
    const port = await freePort();
    const shape = ['--rate', `${far.megabytes}MB`, '--delay', String(far.delayMs)];
    const script = join(TESTBED, 'link.mjs');
    const child = spawn(process.execPath, [script, String(port), `127.0.0.1:${target}`, ...shape], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const link = new SlowLink(child, port);
    for (const untilMs = performance.now() + READY_MS; !(await listens(port)); await delay(20))
      if (performance.now() > untilMs) throw new Error(`link.mjs does not listen on port ${port}`);
    return link;
  }

  /** Bytes that the server has sent over it so far. */
  async received(): Promise<number> {
    const before = this.#printed.length;
    this.#child.kill('SIGUSR2');
    for (const untilMs = performance.now() + READY_MS; !this.#printed.slice(before).includes('\n'); )
      if (performance.now() > untilMs) throw new Error('link.mjs does not say what it passed on');
      else await delay(20);
    return (JSON.parse(this.#printed.slice(before)) as { down: number }).down;
  }

  /** Nothing passes until {@link resume}. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    const gone = new Promise((settle) => this.#child.once('exit', settle));
    this.#child.kill('SIGTERM');
    this.resume();
    await gone;
  }
}

async function listens(port: number): Promise<boolean> {
  return await new Promise((settle) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => settle(true)).once('error', () => settle(false));
    socket.once('connect', () => socket.destroy());
  });
}
