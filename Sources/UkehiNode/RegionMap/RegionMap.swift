// Where the cluster's regions are, as their leaders last said: a cache, rebuilt from the regions themselves
// whenever it is lost (RULES 63). Pure: reports in, what is new out.
//
//   record | version u8 = 1 | generation u64 | descriptor |        the value under `region/` and its id, big-endian
//   change | revision u64 | generation u64 | descriptor |          on its way to another node
//
// Invariants
//   - No two regions of the map have a key in common. Of two reports that claim the same one the newer is true
//     (RULES 24, 25): that of the later recovery from a lost quorum, then that of the higher version.
//   - A region's record is never replaced by an older one of its own.

package import UkehiBase

/// A region as its leader reports it.
package struct RegionReport: Hashable, Sendable {
    package var region: RegionDescriptor
    /// The last recovery from a lost quorum that the reporter knew of: what was reported before one may have been
    /// lost with the quorum (RULES 74).
    package var generation: UInt64

    package init(_ region: RegionDescriptor, generation: UInt64) {
        self.region = region
        self.generation = generation
    }

    /// What decides between reports of the same region: the later one is the truth.
    private var age: (UInt64, UInt64, UInt64) {
        (generation, region.epoch.version, region.epoch.confVersion)
    }

    /// Whether this is the later report of the two. Of two regions, which claim the same keys, members say nothing.
    func isNewer(than other: RegionReport) -> Bool {
        region.region == other.region.region
            ? age > other.age
            : (generation, region.epoch.version)
                > (other.generation, other.region.epoch.version)
    }

    /// An order in which no report comes before one that is newer.
    static func newestFirst(_ left: RegionReport, _ right: RegionReport) -> Bool {
        left.age == right.age
            ? left.region.region < right.region.region : left.age > right.age
    }
}

/// A region of the map, and the write of the system region that put it there; zero: none yet.
package struct MappedRegion: Hashable, Sendable {
    package var report: RegionReport
    package var revision: UInt64
}

/// The newest that was reported of each region.
struct RegionMap {
    private struct Mark {
        var generation: UInt64
        var revision: UInt64
    }
    private var table = RegionTable()
    private var marks: [RegionID: Mark] = [:]
    /// All changes that the system region has taken up to this write are in it.
    private(set) var revision: UInt64 = 0

    /// Its regions, ascending by range.
    var regions: [RegionDescriptor] { table.ascending }

    /// The region of that id. O(log n).
    subscript(region: RegionID) -> RegionDescriptor? { table[region] }

    /// The regions that have a key of `range`. O(log n) and one step for each.
    func overlapping(_ range: KeyRange) -> ArraySlice<RegionDescriptor> {
        table.overlapping(range)
    }

    /// The region that holds a key. O(log n).
    func region(of key: Bytes) -> RegionDescriptor? {
        // The shortest range that has the key ends at the next key there can be.
        let next = Bytes(key.array + [0])
        return table.overlapping(KeyRange(lower: key, upper: next)).first
    }

    private func report(of region: RegionDescriptor) -> RegionReport {
        RegionReport(region, generation: marks[region.region]?.generation ?? 0)
    }

    /// Takes in what is newer than what it has.
    ///
    /// - Returns: What it took, at most one report of each region, and the ids of regions that have no place
    ///   beside it any more. O(n + k log n) for k changes.
    mutating func take(
        _ changes: [MappedRegion]
    ) -> (taken: [MappedRegion], superseded: Set<RegionID>) {
        var taken: [MappedRegion] = []
        // Ascending by range, of what is taken: to be compared with what comes.
        var ranges: [KeyRange] = []
        var seen: Set<RegionID> = []
        var superseded: Set<RegionID> = []
        let newest = changes.filter { !$0.report.region.isSystem }.sorted {
            RegionReport.newestFirst($0.report, $1.report)
        }
        for change in newest where seen.insert(change.report.region.region).inserted {
            let report = change.report
            if let known = table[report.region.region],
                !report.isNewer(than: self.report(of: known))
            {
                continue
            }
            let range = report.region.range
            let place = Self.place(of: range.lower, in: ranges)
            let isFree =
                !(place < ranges.count && ranges[place].overlaps(range))
                && !(place > 0 && ranges[place - 1].overlaps(range))
            let others = table.overlapping(range).filter { $0.region != report.region.region }
            guard isFree, others.allSatisfy({ report.isNewer(than: self.report(of: $0)) }) else {
                continue
            }
            ranges.insert(range, at: place)
            superseded.formUnion(others.map(\.region))
            taken.append(change)
        }
        superseded.subtract(taken.map(\.report.region.region))
        let before = table
        table.remove(superseded)
        table.insert(taken.map(\.report.region))
        // What takes another's place is told no later than that was, though it is not written yet: whoever lacks
        // both would never ask for the other one.
        var revisions: [UInt64] = []
        for change in taken {
            let past = before.overlapping(change.report.region.range).map {
                marks[$0.region]?.revision ?? 0
            }
            let own = marks[change.report.region.region]?.revision ?? 0
            revisions.append(max(change.revision, own, past.max() ?? 0))
        }
        for region in superseded { marks[region] = nil }
        for (change, revision) in zip(taken, revisions) {
            marks[change.report.region.region] = Mark(
                generation: change.report.generation, revision: revision)
        }
        return (taken, superseded)
    }

    /// The first place whose range does not begin before `lower`.
    private static func place(of lower: Bytes, in ranges: [KeyRange]) -> Int {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].lower < lower { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// What it has of each region stays; all that the system region took is to be asked for again.
    mutating func forgetRevision() { revision = 0 }

    /// The last recovery from a lost quorum before the region was reported; nil: it is not in the map.
    func generation(of region: RegionID) -> UInt64? { marks[region]?.generation }

    /// The system region has taken these with the write of that revision.
    mutating func stored(_ regions: [RegionID], at revision: UInt64) {
        for region in regions { marks[region]?.revision = revision }
        reached(revision)
    }

    /// Nothing up to here is missing.
    mutating func reached(_ revision: UInt64) { self.revision = max(self.revision, revision) }

    /// What the system region has taken after a write, oldest first: whole writes, of about `maxBytes`; and up
    /// to which write that is all. O(n).
    func changes(
        after revision: UInt64, maxBytes: Int
    ) -> (changes: [MappedRegion], reached: UInt64) {
        let later = marks.filter { $0.value.revision > revision }.sorted {
            ($0.value.revision, $0.key) < ($1.value.revision, $1.key)
        }
        var changes: [MappedRegion] = []
        var bytes = 0
        for (region, mark) in later {
            if bytes >= maxBytes, let last = changes.last?.revision, last < mark.revision {
                return (changes, last)
            }
            guard let descriptor = table[region] else { continue }
            bytes += RegionReport.bytes(of: descriptor)
            changes.append(
                MappedRegion(
                    report: RegionReport(descriptor, generation: mark.generation),
                    revision: mark.revision))
        }
        return (changes, self.revision)
    }
}

// MARK: - Bytes

extension RegionReport {
    private static let formatVersion: UInt8 = 1

    /// Of a report, about.
    static func bytes(of region: RegionDescriptor) -> Int {
        64 + region.range.lower.count + region.range.upper.count
            + region.peers.count * RegionDescriptor.peerBytes
    }

    /// What the system region keeps.
    package func encoded() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 256)
        writer.append(Self.formatVersion)
        writer.append(generation)
        region.encode(into: &writer)
        return writer.take()
    }

    /// Reads what the system region keeps.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> RegionReport {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt8.self)
        guard version == formatVersion else {
            throw reader.failure("region record of unknown version \(version)")
        }
        let report = try decode(from: &reader)
        try reader.expectEnd()
        return report
    }

    fileprivate static func decode(from reader: inout ByteReader) throws(DecodeError)
        -> RegionReport
    {
        let generation = try reader.read(UInt64.self)
        let region = try RegionDescriptor.decode(from: &reader)
        guard generation < RegionDescriptor.numberLimit, !region.isSystem else {
            throw reader.failure("no region of users is like that")
        }
        return RegionReport(region, generation: generation)
    }
}

extension MappedRegion {
    private static let smallest = 8 + 8 + 36

    /// Of many, for another node.
    package static func encoded(_ changes: [MappedRegion]) -> Bytes {
        var writer = ByteWriter(chunkCapacity: 4096)
        writer.append(UInt32(changes.count))
        for change in changes {
            writer.append(change.revision)
            writer.append(change.report.generation)
            change.report.region.encode(into: &writer)
        }
        return writer.take()
    }

    /// Reads them; all of the bytes.
    package static func decode(_ bytes: Bytes) throws(DecodeError) -> [MappedRegion] {
        var reader = ByteReader(bytes)
        let count = Int(try reader.read(UInt32.self))
        guard count * smallest <= reader.remaining else {
            throw reader.failure("\(count) regions do not fit")
        }
        var changes: [MappedRegion] = []
        changes.reserveCapacity(count)
        for _ in 0..<count {
            let revision = try reader.read(UInt64.self)
            guard revision < RegionDescriptor.numberLimit else {
                throw reader.failure("a revision past every bound")
            }
            changes.append(
                MappedRegion(report: try .decode(from: &reader), revision: revision))
        }
        try reader.expectEnd()
        return changes
    }
}
