import { styleText } from 'node:util';
import { CodedError } from '@sepia/base/errors';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { pushImage } from '../image/push-image.ts';
import { RegistryClient } from '../registry/registry-client.ts';
import { bytesText, durationText } from '../terminal/format.ts';
import { Transfers } from '../terminal/transfers.ts';
import type { ClusterFile } from '../up/cluster-file.ts';
import { compileWhereNew } from '../up/compile.ts';
import { StartView } from '../up/start-view.ts';
import { Supervisor } from '../up/supervisor.ts';
import { LOCAL_UPSTREAM } from '../up/upstream-option.ts';
import { demoHints } from './demo-hints.ts';
import { pullRace } from './pull-race.ts';
import { randomImage } from './random-image.ts';
import { resultTable, verdict } from './result-table.ts';
import { chooseShape, DemoFolder } from './surroundings.ts';

const LAYERS = 3;
const LAYER_BYTES = 64 * 1024 * 1024;
const REPOSITORY = 'demo/app';
const TAG = 'v1';

/** A cluster in a temporary folder that shows what Sepia does. */
export class Demo {
  readonly #out: NodeJS.WriteStream;
  readonly #folder = new DemoFolder();
  readonly #dispatcher: Dispatcher = createDispatcher();
  #supervisor: Supervisor | undefined;
  readonly #abort = new AbortController();
  #stopping: Promise<void> | undefined;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  /** Starts, pushes, pulls five times at once, shows the table. @returns whether all went as promised */
  async run(): Promise<boolean> {
    const startedMs = performance.now();
    this.#title('Sepia: one image, five nodes, at once');
    const cluster = await this.#startCluster();
    const image = await randomImage({
      layers: LAYERS,
      layerBytes: LAYER_BYTES,
      seed: `sepia ${process.pid}`,
    });
    const sizeBytes = image.blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
    this.#title(
      `Pushing ${REPOSITORY}:${TAG}, ${LAYERS} layers of noise, ${bytesText(sizeBytes)}, to ${cluster.proxies[0]!.url}`,
    );
    const proxy = new RegistryClient({ dispatcher: this.#dispatcher }, { url: cluster.proxies[0]!.url });
    await pushImage(proxy, REPOSITORY, TAG, image, new Transfers(this.#out));
    this.#title(`Pulling it on ${cluster.agents.length} nodes at the same moment`);
    const transfers = new Transfers(this.#out);
    const results = await pullRace(
      { dispatcher: this.#dispatcher, transfers },
      { signal: this.#abort.signal, agents: cluster.agents, repository: REPOSITORY, tag: TAG, sizeBytes },
    );
    const { passed, text } = verdict(results, sizeBytes);
    this.#out.write(
      `\n${resultTable(results, this.#out)}\n\n${styleText(passed ? 'green' : 'red', text, { stream: this.#out })}\n`,
    );
    this.#out.write(`All of it took ${durationText(performance.now() - startedMs)}.\n`);
    return passed;
  }

  /** True from the moment of a stop on: what fails then is not worth a word. */
  get isStopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** What to type next; the cluster goes on running. */
  hints(): string {
    return demoHints(
      this.#supervisor?.cluster,
      this.#supervisor?.paths.clusterJson ?? '',
      `${REPOSITORY}:${TAG}`,
    );
  }

  /** Stops the cluster and removes its folder; idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      // Our own pulls go first: members wait for requests under way.
      this.#abort.abort(new CodedError('DRAINING'));
      await this.#dispatcher.destroy();
      await this.#supervisor?.stop();
      this.#folder.remove();
    })();
    return this.#stopping;
  }

  async #startCluster(): Promise<ClusterFile> {
    const { shape, note } = await chooseShape();
    if (note !== undefined) this.#out.write(`${note}\n`);
    const root = this.#folder.create();
    let view: StartView | undefined;
    const supervisor = new Supervisor(
      { onEvent: (event) => view?.onEvent(event) },
      { root, shape, upstreams: [LOCAL_UPSTREAM], restart: false },
    );
    this.#supervisor = supervisor;
    view = new StartView(supervisor.members, this.#out);
    this.#out.write(`A cluster of ${supervisor.members.length} processes, in ${root}\n`);
    await compileWhereNew(supervisor.members);
    const cluster = await supervisor.start();
    view.started();
    return cluster;
  }

  #title(text: string): void {
    this.#out.write(`\n${styleText('bold', text, { stream: this.#out })}\n`);
  }
}
