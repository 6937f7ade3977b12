import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { SimRecords } from '../control/records.ts';
import type { Trackers } from '../control/trackers.ts';
import type { Upstream } from '../control/upstream.ts';
import type { Stage } from '../wire/stage.ts';
import type { BlobSwarm } from './blob-swarm.ts';
import type { ColdBlob } from './cold-blob.ts';

/** How long a push waits for a body or a copy that does not come, and a member between two looks at the tag, ms. */
const PATIENCE_MS = 5_000;
const LOOK_MS = 300;
/** How often a client pushes that is told it failed. */
const TRIES = 5;
const TAG = 'app:v1';

interface PushInit {
  readonly stage: Stage;
  readonly swarm: BlobSwarm;
  readonly blob: ColdBlob;
  /** The client's line. */
  readonly client: Upstream;
  readonly trackers: Trackers;
}

/** One image pushed to the cluster, and all members that wait for its tag: bytes on two origins, the link, the tag, then the answer. */
export class SimPush {
  /** When the client was told that it is done. */
  pushedMs: number | undefined;
  readonly #init: PushInit;
  readonly #records: SimRecords;

  constructor(init: PushInit) {
    this.#init = init;
    this.#records = new SimRecords(init.stage, init.blob);
  }

  /** Pushes until it is acknowledged. @throws what the last try failed with */
  async push(): Promise<void> {
    for (let left = TRIES; ; left--) {
      try {
        await this.#push();
        this.pushedMs = this.#init.stage.clock.nowMs;
        return;
      } catch (error) {
        throwIfBug(error);
        if (left === 0) throw error;
        await this.#records.delay(LOOK_MS);
      }
    }
  }

  /** Looks for the tag, and pulls once it is there. @throws {Error} where what was acknowledged is not there */
  async pull(member: string): Promise<void> {
    const { stage, swarm, blob, trackers } = this.#init;
    const { port } = stage.machines.get(member)!;
    const tags = this.#records.tags(member, port);
    for (;;) {
      const isPushed = this.pushedMs !== undefined;
      try {
        const found = await tags.read<string>(TAG, blob.ids);
        if (found === undefined && isPushed) throw new TypeError(`${member}: the tag is lost`);
        if (found !== undefined) {
          const entry = await this.#records.linked(port, found);
          if (entry?.value === undefined) throw new TypeError(`${member}: a tag whose link is lost`);
          swarm.begin(member, trackers);
          return;
        }
      } catch (error) {
        throwIfBug(error);
      }
      await this.#records.delay(LOOK_MS);
    }
  }

  async #push(): Promise<void> {
    const { stage, blob } = this.#init;
    const [first, second] = blob.ids.filter((id) => blob.life(id) === 'up');
    if (first === undefined || second === undefined) throw new CodedError('NO_PEERS');
    if (blob.fetchOf(first) === undefined) await this.#upload(first);
    if (blob.fetchOf(second) === undefined) await this.#copy(first, second);
    const from = stage.network.port('client');
    await this.#records.link(from, blob.name.digest, {});
    await this.#records.tags('client', from).change(TAG, blob.ids, () => blob.name.digest);
  }

  async #upload(to: string): Promise<void> {
    const { stage, blob, client, swarm } = this.#init;
    const { pieces } = swarm.plan;
    let came = 0;
    await this.#within(to, (done) =>
      client.get(
        stage.machines.get(to)!,
        { start: 0, end: pieces, pieces },
        {
          answered: () => undefined,
          piece: () => {
            came += 1;
            return true;
          },
          ended: () => done(came === pieces),
        },
      ),
    );
    blob.hold(to);
  }

  /** One origin gives another what it has, piece by piece. */
  async #copy(from: string, to: string): Promise<void> {
    const { blob, swarm } = this.#init;
    const port = swarm.ports.get(from)!;
    for (let index = 0; index < swarm.plan.pieces; index++)
      await this.#within(to, (done) => port.get(to, index, done));
    blob.hold(to);
  }

  /** @throws `TIMEOUT` where it is not done in time, or its origin died meanwhile */
  async #within(origin: string, begin: (done: (ok: boolean) => void) => () => void): Promise<void> {
    const { blob, stage } = this.#init;
    const generation = blob.life(origin) === 'up' ? this.#init.swarm.nodes.get(origin) : undefined;
    const isOk = await new Promise<boolean>((resolve) => {
      const giveUp = begin(resolve);
      stage.clock.at(stage.clock.nowMs + PATIENCE_MS, () => {
        resolve(false);
        giveUp();
      });
    });
    const isSame = this.#init.swarm.nodes.get(origin) === generation;
    if (!isOk || !isSame || blob.life(origin) !== 'up')
      throw new CodedError('TIMEOUT', { detail: { origin } });
  }
}
