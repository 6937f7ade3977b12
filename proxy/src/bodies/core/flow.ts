/** Where a request body is stuck, from figures taken since the last look; see {@link judgeFlow}. */
export interface FlowFigures {
  /** Ms since the client last sent a byte. */
  readonly clientIdleMs: number;
  /** Ms since the origin last took a byte. */
  readonly originIdleMs: number;
  /** Bytes wait for the origin, or the body is complete and the answer is awaited. */
  readonly waitsForOrigin: boolean;
  /** The whole body was handed over. */
  readonly isComplete: boolean;
  /** The origin answered something, somewhere, lately. */
  readonly originAlive: boolean;
}

/** How long the parts of an upload may take at a proxy, in ms. */
export interface FlowLimits {
  /** A silent stager is lost after this long. */
  readonly originSilentMs: number;
  /** Longest pause of a body on either side. */
  readonly idleMs: number;
  /** Longest wait for the answer once the body is complete, while the origin is alive. */
  readonly answerMs: number;
}

/**
 * Who stands still: the client that sends, the stager that is silent, or one that lives and does not get on.
 */
export type FlowVerdict = 'flows' | 'client-idle' | 'origin-lost' | 'origin-stuck';

/** Says which side, if any, has stopped a request body for too long. */
export function judgeFlow(figures: FlowFigures, limits: FlowLimits): FlowVerdict {
  if (!figures.waitsForOrigin) return figures.clientIdleMs > limits.idleMs ? 'client-idle' : 'flows';
  if (figures.originIdleMs > limits.originSilentMs && !figures.originAlive) return 'origin-lost';
  return figures.originIdleMs > (figures.isComplete ? limits.answerMs : limits.idleMs)
    ? 'origin-stuck'
    : 'flows';
}
