// The naive twin: what a log holds, as plain dictionaries of whole entries.

import UkehiBase
import UkehiSimulation
import UkehiWAL

struct ModelEntry: Hashable {
    var term: UInt64
    var kind: EntryKind
    var data: [UInt8]
}

struct ModelRegion: Hashable {
    var hardState = HardState.empty
    var first: UInt64 = 1
    var last: UInt64 = 0
    var compactedTerm: UInt64 = 0
    var entries: [UInt64: ModelEntry] = [:]
    var birth: [UInt8]?
    var tombstone: [UInt8]?

    func term(at index: UInt64) -> UInt64 {
        index + 1 == first ? compactedTerm : entries[index]?.term ?? 0
    }

    mutating func raise(_ newer: HardState) {
        let commit = max(newer.commit, hardState.commit)
        hardState = newer
        hardState.commit = commit
    }
}

/// All regions of the twin.
struct ModelLog: Hashable {
    var regions: [RegionID: ModelRegion] = [:]

    /// Makes one random change, in the twin and in `batch`.
    mutating func change(
        _ random: inout SeededRandom, _ batch: inout LogBatch, regionCount: Int, maxData: Int
    ) {
        let id = RegionID(UInt64.random(in: 1...UInt64(regionCount), using: &random))
        var region = regions[id] ?? ModelRegion()
        defer { regions[id] = region }
        if region.tombstone != nil, !random.oneIn(4) {
            return birth(id, &region, &random, &batch)
        }
        switch Int.random(in: 0..<20, using: &random) {
        case 0: birth(id, &region, &random, &batch)
        case 1:
            region.raise(Self.nextHardState(region, &random))
            batch.append(region: id, hardState: region.hardState, entries: [])
        case 2, 3, 4: compact(id, &region, &random, &batch)
        case 5 where random.oneIn(2):
            let index = region.last + UInt64.random(in: 0...5, using: &random)
            let term = region.hardState.term.rawValue + 1
            batch.reset(region: id, index: LogIndex(index), term: Term(term))
            region.entries = [:]
            region.first = index + 1
            region.last = index
            region.compactedTerm = term
        case 6 where random.oneIn(2):
            let reason = random.bytes(Int.random(in: 0...20, using: &random))
            batch.tombstone(region: id, payload: Bytes(reason))
            region = ModelRegion(hardState: region.hardState, tombstone: reason)
        default: append(id, &region, &random, &batch, maxData)
        }
    }

    private func birth(
        _ id: RegionID, _ region: inout ModelRegion, _ random: inout SeededRandom,
        _ batch: inout LogBatch
    ) {
        let payload = random.bytes(Int.random(in: 0...40, using: &random))
        region.hardState = Self.nextHardState(region, &random)
        region.birth = payload
        region.tombstone = nil
        batch.birth(region: id, payload: Bytes(payload), hardState: region.hardState)
    }

    private func compact(
        _ id: RegionID, _ region: inout ModelRegion, _ random: inout SeededRandom,
        _ batch: inout LogBatch
    ) {
        guard region.last >= region.first else { return }
        let to = UInt64.random(in: region.first...(region.last + 1), using: &random)
        let term = region.term(at: to - 1)
        batch.compact(region: id, firstIndex: LogIndex(to), term: Term(term))
        guard to > region.first else { return }
        for index in region.first..<to { region.entries[index] = nil }
        region.compactedTerm = term
        region.first = to
    }

    private func append(
        _ id: RegionID, _ region: inout ModelRegion, _ random: inout SeededRandom,
        _ batch: inout LogBatch, _ maxData: Int
    ) {
        var start = region.last + 1
        let isConflict = region.last >= region.first && random.oneIn(4)
        if isConflict { start = UInt64.random(in: region.first...region.last, using: &random) }
        let before = start > 1 ? region.term(at: start - 1) : 0
        var term = max(before, region.hardState.term.rawValue, 1) + (isConflict ? 1 : 0)
        var entries: [Entry] = []
        for index in start..<(start + UInt64.random(in: 1...6, using: &random)) {
            if random.oneIn(10) { term += 1 }
            let count = random.oneIn(3) ? 0 : Int.random(in: 0...maxData, using: &random)
            // Some of it compresses.
            let data =
                random.oneIn(2)
                ? random.bytes(count)
                : [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: count)
            let kind = random.oneIn(8) ? EntryKind.confChangeV2 : .normal
            entries.append(
                Entry(term: Term(term), index: LogIndex(index), kind: kind, data: Bytes(data)))
        }
        for index in start..<max(start, region.last + 1) { region.entries[index] = nil }
        for entry in entries {
            region.entries[entry.index.rawValue] = ModelEntry(
                term: entry.term.rawValue, kind: entry.kind, data: entry.data.array)
            region.last = entry.index.rawValue
        }
        var hardState: HardState?
        if random.oneIn(2) {
            region.raise(
                HardState(
                    term: Term(term), vote: PeerID(1),
                    commit: LogIndex(UInt64.random(in: 0...start, using: &random))))
            hardState = region.hardState
        }
        batch.append(region: id, hardState: hardState, entries: entries)
    }

    private static func nextHardState(
        _ region: ModelRegion, _ random: inout SeededRandom
    ) -> HardState {
        HardState(
            term: region.hardState.term.rawValue == 0
                ? Term(1) : Term(region.hardState.term.rawValue + 1),
            vote: PeerID(UInt64.random(in: 0...3, using: &random)),
            commit: LogIndex(max(region.hardState.commit.rawValue, region.first - 1)))
    }

    /// The twin of what a log recovered, entries read back one by one included.
    static func of(_ log: WriteAheadLog, _ recovered: [RecoveredRegion]) throws -> ModelLog {
        var model = ModelLog()
        for found in recovered {
            var region = ModelRegion(
                hardState: found.hardState, first: found.firstIndex.rawValue,
                last: found.lastIndex.rawValue, compactedTerm: found.compactedTerm.rawValue,
                birth: found.birth?.array, tombstone: found.tombstone?.array)
            var entries: [Entry] = []
            // A read ends before a damaged body; the next one says so.
            var next = found.firstIndex
            while next <= found.lastIndex {
                entries += try log.entries(
                    region: found.region, from: next, to: found.lastIndex + 1, maxBytes: .max)
                next = found.firstIndex + UInt64(entries.count)
            }
            for entry in entries {
                region.entries[entry.index.rawValue] = ModelEntry(
                    term: entry.term.rawValue, kind: entry.kind, data: entry.data.array)
                guard found.terms.last(where: { $0.start <= entry.index })?.term == entry.term
                else { throw ModelMismatch("the term runs of \(found.region) are wrong") }
            }
            model.regions[found.region] = region
        }
        return model
    }
}

struct ModelMismatch: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
