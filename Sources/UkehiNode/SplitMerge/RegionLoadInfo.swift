// What a node tells of the load on the regions that it leads.

public import UkehiBase

/// A part of a region, as samples of what was asked show it.
public struct HotRange: Hashable, Sendable {
    /// The least key that was seen of it, and the greatest; equal: one key alone.
    public var first: Bytes
    public var last: Bytes
    /// What reads of it are of the region's load, 0 to 1; an operation counts as 1 KiB and its bytes.
    public var readShare: Double
    /// The same of writes.
    public var writeShare: Double
    /// Both together.
    public var share: Double { readShare + writeShare }

    public init(first: Bytes, last: Bytes, readShare: Double, writeShare: Double) {
        self.first = first
        self.last = last
        self.readShare = readShare
        self.writeShare = writeShare
    }
}

/// Why a region was not divided by itself when it would have been.
public struct SplitRefusalInfo: Hashable, Sendable {
    /// What it would have been divided for.
    public enum Cause: UInt8, Hashable, Sendable, CaseIterable {
        case load = 1
        case size = 2
    }
    public var cause: Cause
    public var reason: String
    /// Since the last time that it was so.
    public var secondsAgo: UInt64

    public init(cause: Cause, reason: String, secondsAgo: UInt64) {
        self.cause = cause
        self.reason = reason
        self.secondsAgo = secondsAgo
    }
}

/// How much is asked of a region, as its leader counts it.
public struct RegionLoadInfo: Hashable, Sendable {
    public var region: RegionID
    public var range: KeyRange
    /// A second, on average over the last few.
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    /// Written, and given back to readers.
    public var bytesPerSecond: Double
    /// Keys and values, as last looked at, and what was written since; nil: not looked at yet.
    public var sizeBytes: UInt64?
    /// Where in the region the load is, the hottest first; empty where little is asked.
    public var hot: [HotRange]
    /// Why it was not divided by itself when it would have been, of each cause the last time; empty: it never
    /// was to be, or has been since.
    public var refusals: [SplitRefusalInfo]

    public var operationsPerSecond: Double { readsPerSecond + writesPerSecond }

    public init(
        region: RegionID, range: KeyRange, readsPerSecond: Double, writesPerSecond: Double,
        bytesPerSecond: Double, sizeBytes: UInt64?, hot: [HotRange],
        refusals: [SplitRefusalInfo]
    ) {
        self.region = region
        self.range = range
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.bytesPerSecond = bytesPerSecond
        self.sizeBytes = sizeBytes
        self.hot = hot
        self.refusals = refusals
    }
}

/// What is asked about the load.
public struct LoadQuestion: Hashable, Sendable {
    /// This region alone; nil: those on which the load is greatest.
    public var region: RegionID?
    /// How many at most.
    public var top: Int

    public init(region: RegionID? = nil, top: Int) {
        self.region = region
        self.top = top
    }
}

extension LoadQuestion {
    /// Those of `loads` that are asked for, the hottest first.
    package func choose(_ loads: [RegionLoadInfo]) -> [RegionLoadInfo] {
        let wanted = region.map { region in loads.filter { $0.region == region } } ?? loads
        let ordered = wanted.sorted {
            ($1.operationsPerSecond, $0.region) < ($0.operationsPerSecond, $1.region)
        }
        return Array(ordered.prefix(max(0, top)))
    }

    /// Keys of hot parts that one answer has at most: it goes over in one frame.
    private static let mostKeyBytes = 4 << 20

    /// The same as one answer: where keys are so long that they are too many bytes, the cooler regions go without
    /// their parts.
    func answer(_ loads: [RegionLoadInfo]) -> [RegionLoadInfo] {
        var left = Self.mostKeyBytes
        return choose(loads).map { load in
            var load = load
            left -= load.hot.reduce(0) { $0 + $1.first.count + $1.last.count }
            if left < 0 { load.hot = [] }
            return load
        }
    }
}
