import { readFileSync } from 'node:fs';
import { freePort, quietly, testbed } from '@sepia/test-support/testbed';

/** A real docker-registry, run by the test bed. */
export class BenchRegistry {
  readonly url: string;
  readonly port: number;
  readonly #dir: string;

  private constructor(dir: string, url: string, port: number) {
    this.#dir = dir;
    this.url = url;
    this.port = port;
  }

  static async start(dir: string): Promise<BenchRegistry> {
    const port = await freePort();
    await testbed('registry.sh', ['start', dir, String(port)]);
    return new BenchRegistry(dir, `http://127.0.0.1:${port}`, port);
  }

  /** Starts it again over the same bytes, in a namespace. */
  async moveTo(namespace: string, address: string): Promise<BenchRegistry> {
    await testbed('registry.sh', ['stop', this.#dir, '--keep']);
    await testbed('registry.sh', ['start', this.#dir, '5000', '--netns', namespace, '--addr', address]);
    return new BenchRegistry(this.#dir, `http://${address}:5000`, 5000);
  }

  get pid(): number {
    return Number(readFileSync(`${this.#dir}/registry.pid`, 'utf8').split(' ')[0]);
  }

  async stop(): Promise<void> {
    await quietly('registry.sh', ['stop', this.#dir]);
  }
}
