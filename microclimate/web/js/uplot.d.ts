// The part of uPlot that the page uses; the library itself is in vendor/uplot.
interface UplotSeries {
  label?: string;
  scale?: string;
  stroke?: string | (() => string);
  fill?: string;
  width?: number;
  dash?: number[];
  spanGaps?: boolean;
  points?: { show?: boolean; size?: number; fill?: string; stroke?: string; width?: number };
  paths?: unknown;
  show?: boolean;
  value?: (u: uPlot, value: number | null) => string;
}
interface UplotOptions {
  width: number;
  height: number;
  series: UplotSeries[];
  bands?: { series: [number, number]; fill: string }[];
  axes?: Record<string, unknown>[];
  scales?: Record<string, Record<string, unknown>>;
  cursor?: Record<string, unknown>;
  legend?: Record<string, unknown>;
  hooks?: Record<string, ((u: uPlot, ...rest: any[]) => void)[]>;
  tzDate?: (seconds: number) => Date;
  padding?: (number | null)[];
}
declare class uPlot {
  constructor(options: UplotOptions, data: (number | null | undefined)[][], target: HTMLElement);
  readonly over: HTMLElement;
  readonly ctx: CanvasRenderingContext2D;
  readonly bbox: { left: number; top: number; width: number; height: number };
  readonly cursor: { idx: number | null; left: number; top: number };
  readonly select: { left: number; width: number };
  readonly scales: Record<string, { min: number; max: number }>;
  readonly data: (number | null | undefined)[][];
  setData(data: (number | null | undefined)[][], resetScales?: boolean): void;
  setScale(name: string, range: { min: number; max: number }): void;
  setSize(size: { width: number; height: number }): void;
  setSelect(select: { left: number; top: number; width: number; height: number }, fire?: boolean): void;
  valToPos(value: number, scale: string, canvasPixels?: boolean): number;
  posToVal(position: number, scale: string): number;
  destroy(): void;
  static sync(key: string): { key: string };
  static tzDate(date: Date, zone: string): Date;
  static pxRatio: number;
  static paths: { stepped?: (options: { align: number }) => unknown; bars?: (options: object) => unknown };
}
