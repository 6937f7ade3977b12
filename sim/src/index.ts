export { CALIBRATED, calibrated } from './calibration.ts';
export {
  type Fault,
  type Result,
  type SimulateOptions,
  type SimulateProgress,
  simulate,
} from './simulate.ts';
export type { UpstreamPlan } from './control/upstream.ts';
export { type KrakenOptions, type KrakenResult, simulateKraken } from './simulate-kraken.ts';
