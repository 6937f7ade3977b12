export type { UpstreamPlan } from './control/upstream.ts';
export { type KrakenOptions, type KrakenResult, simulateKraken } from './kraken/simulate-kraken.ts';
export { CALIBRATED, calibrated } from './whole/calibration.ts';
export {
  type Fault,
  type Result,
  type SimulateOptions,
  type SimulateProgress,
  simulate,
  simulatePush,
} from './whole/simulate.ts';
