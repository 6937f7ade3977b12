export { type KrakenOptions, simulateKraken } from './kraken/simulate-kraken.ts';
export { type Fault, type Result, type SimulateOptions, simulate } from './simulate.ts';
