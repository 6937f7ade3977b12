import { SharedLine } from '@sepia/swarm/core/line/shared-line';
import type { VirtualClock } from './clock.ts';
import type { Network, Port } from './network.ts';
import { PIECE_BYTES, Uplink } from './uplink.ts';

/** What a member's one thread takes for a MiB, ms: to receive and check it, and to send it. */
export interface CpuCost {
  readonly receiveMs: number;
  readonly sendMs: number;
}

/** One node: its line, and one thread that does one thing after the other. All its swarms share them. */
export class Machine {
  readonly port: Port;
  readonly uplink: Uplink;
  readonly line: SharedLine;
  readonly #clock: VirtualClock;
  readonly #cpu: CpuCost | undefined;
  #cpuFreeMs = 0;

  /** `cpu` undefined: it costs no time. */
  constructor(init: {
    readonly name: string;
    readonly clock: VirtualClock;
    readonly network: Network;
    readonly blockBytes: number;
    readonly cpu: CpuCost | undefined;
  }) {
    this.port = init.network.port(init.name);
    this.uplink = new Uplink(this.port, init.network, init.blockBytes);
    this.line = new SharedLine(init.clock.nowMs);
    this.#clock = init.clock;
    this.#cpu = init.cpu;
  }

  /** Runs `then` once `bytes` that came were looked through. */
  received(bytes: number, then: () => void): void {
    this.#work(((this.#cpu?.receiveMs ?? 0) * bytes) / PIECE_BYTES, then);
  }

  /** Runs `then` once `bytes` are ready to leave. */
  sending(bytes: number, then: () => void): void {
    this.#work(((this.#cpu?.sendMs ?? 0) * bytes) / PIECE_BYTES, then);
  }

  #work(ms: number, then: () => void): void {
    if (ms === 0) {
      then();
      return;
    }
    this.#cpuFreeMs = Math.max(this.#cpuFreeMs, this.#clock.nowMs) + ms;
    this.#clock.at(this.#cpuFreeMs, then);
  }
}
