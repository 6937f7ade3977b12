export { type Fault, type Result, type SimulateOptions, simulate } from './simulate.ts';
export { type KrakenOptions, simulateKraken } from './simulate-kraken.ts';
