// Footers: opening by them is opening by a scan, whatever was written and whatever became of them.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiSimulation

@testable import UkehiWAL

@Suite("Footers")
struct FooterTests {
    /// A log of random changes over several segments, purged and reopened now and then.
    private static func randomLog(
        _ seed: UInt64, options: WALOptions = SmallLog.options
    ) throws -> SmallLog {
        var random = SeededRandom(seed: seed)
        var small = try SmallLog(options: options, seed: random.next())
        var model = ModelLog()
        for _ in 0..<Int.random(in: 20...120, using: &random) {
            var batch = LogBatch()
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                model.change(&random, &batch, regionCount: 5, maxData: 400)
            }
            if !batch.isEmpty { _ = try small.log.submit(&batch, lane: 0) }
            if random.oneIn(2) { small.pump() }
            if random.oneIn(8) {
                small.pump()
                _ = try small.log.purgeStep()
            }
            if random.oneIn(40) {
                small.pump()
                small = try SmallLog(
                    small.fileSystem.copy(), options: options, seed: random.next())
            }
        }
        small.pump()
        small.claim()
        return small
    }

    private static func open(
        _ fileSystem: SimulatedFileSystem, byFooters: Bool,
        parallel: any ParallelRunner = SerialRunner()
    ) throws(WALError) -> SmallLog {
        var options = SmallLog.options
        options.readsFooters = byFooters
        return try SmallLog(fileSystem.copy(), options: options, seed: 7, parallel: parallel)
    }

    /// Everything that opening makes of a log.
    private static func state(_ small: SmallLog) -> [RegionID: OpenedRegion] {
        var state: [RegionID: OpenedRegion] = [:]
        let table = small.log.scheduler.regions
        let logs = (0..<table.count).map { table[$0] }.sorted { $0.region < $1.region }
        for (region, recovered) in zip(logs, small.recovered)
        where region.region == recovered.region {
            state[region.region] = OpenedRegion(
                recovered: recovered, staged: StagedFacts(region.staged),
                blocks: Array(region.index.live),
                firstIndex: region.firstIndex, hardStateSegment: region.hardStateSegment,
                baseSegment: region.baseSegment, identitySegment: region.identitySegment)
        }
        return state
    }

    /// The sealed segments of a disk, each with its successor.
    private static func sealed(
        _ fileSystem: SimulatedFileSystem
    ) throws(WALError) -> [(segment: FoundSegment, successor: SegmentHeader)] {
        let found = try LogDirectory.read(
            fileSystem, SmallLog.directory, forWriting: false)
        return found.segments.indices.compactMap { position in
            found.successor(of: position).map { (found.segments[position], $0) }
        }
    }

    private static func expectSameByBoth(
        _ fileSystem: SimulatedFileSystem, _ what: String
    ) throws {
        let byFooters = try open(fileSystem, byFooters: true)
        let byScan = try open(fileSystem, byFooters: false)
        #expect(state(byFooters) == state(byScan), "\(what)")
        #expect(byFooters.log.scheduler.nextLSN == byScan.log.scheduler.nextLSN, "\(what)")
    }

    // MARK: The same state

    @Test("opening by footers is opening by a scan", arguments: UInt64(1)...60)
    func same(seed: UInt64) throws {
        let small = try Self.randomLog(seed)
        try Self.expectSameByBoth(small.fileSystem, "seed \(seed)")
    }

    @Test("opening on several threads is opening on one", arguments: UInt64(1)...20)
    func parallel(seed: UInt64) throws {
        let small = try Self.randomLog(seed)
        for byFooters in [true, false] {
            let one = try Self.open(small.fileSystem, byFooters: byFooters)
            let three = try Self.open(
                small.fileSystem, byFooters: byFooters, parallel: ThreadRunner(width: 3))
            #expect(Self.state(one) == Self.state(three))
            #expect(one.recovered == three.recovered)
            #expect(one.log.scheduler.nextLSN == three.log.scheduler.nextLSN)
            try three.append(1_000, from: 1)
        }
    }

    @Test("several threads find the damage that one finds", arguments: UInt64(1)...10)
    func parallelDamage(seed: UInt64) throws {
        let small = try Self.randomLog(seed)
        var random = SeededRandom(seed: seed)
        var found = 0
        for _ in 0..<40 {
            let damaged = small.fileSystem.copy()
            let name = small.segmentNames.randomElement(using: &random) ?? ""
            var bytes = damaged.contents(SmallLog.path(name)) ?? []
            bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 4
            damaged.replace(SmallLog.path(name), with: bytes)
            func outcome(_ parallel: any ParallelRunner) -> Result<[RecoveredRegion], WALError> {
                do throws(WALError) {
                    return .success(
                        try Self.open(damaged, byFooters: false, parallel: parallel).recovered)
                } catch {
                    return .failure(error)
                }
            }
            let one = outcome(SerialRunner())
            #expect(one == outcome(ThreadRunner(width: 3)))
            if case .failure = one { found += 1 }
        }
        #expect(found > 0)
    }

    @Test("sealed segments have footers, with every kind of detail in them")
    func reach() throws {
        var (segments, footers, runs, bodies) = (0, 0, 0, 0)
        for seed in UInt64(1)...60 {
            let small = try Self.randomLog(seed)
            for (segment, successor) in try Self.sealed(small.fileSystem) {
                segments += 1
                guard let footer = try FooterBuffer.read(segment, successor: successor) else {
                    continue
                }
                footers += 1
                var cursor = FooterCursor(footer.records)
                while let record = cursor.next() {
                    var details = DetailCursor(record.details)
                    for position in 0..<record.header.itemCount
                    where details.detail(of: position) != nil {
                        if record.item(at: position)?.kind == .append {
                            runs += 1
                        } else {
                            bodies += 1
                        }
                    }
                }
            }
        }
        #expect(footers * 10 > segments * 9)
        #expect(footers > 100)
        #expect(runs > 20)
        #expect(bodies > 20)
    }

    @Test("a sealed segment does not grow for its footer")
    func room() throws {
        let small = try Self.randomLog(3)
        for (segment, _) in try Self.sealed(small.fileSystem) {
            #expect(segment.bytes <= segment.header.capacity)
        }
        #expect(small.log.statistics.footersWritten > 0)
    }

    @Test("records beyond the limit mean no footer, and the segment is scanned")
    func limit() throws {
        let small = try SmallLog()
        for round in UInt64(1)...8 {
            var batch = LogBatch()
            for region in UInt64(1)...90 {
                batch.append(
                    region: RegionID(region),
                    hardState: HardState(term: Term(round), vote: .none, commit: .zero),
                    entries: [])
            }
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        #expect(small.log.statistics.segmentsActivated > 1)
        #expect(small.log.statistics.footersWritten == 0)
        try Self.expectSameByBoth(small.fileSystem, "no footers")
    }

    @Test("what recovery seals gets a footer, too")
    func recovered() throws {
        let small = try SmallLog()
        try small.append(1, from: 1)
        small.claim()
        let again = try SmallLog.reopened(small.fileSystem)
        again.pump()
        let sealed = try Self.sealed(again.fileSystem)
        #expect(sealed.count == 1)
        for (segment, successor) in sealed {
            #expect(try FooterBuffer.read(segment, successor: successor) != nil)
        }
        try Self.expectSameByBoth(again.fileSystem, "recovered")
    }

    // MARK: Damage

    /// A sealed segment with a footer, and what is in it.
    private struct Sample {
        var small: SmallLog
        var path: String
        var end: Int
        var bytes: [UInt8]
        var recordBytes: Int
        var state: [RegionID: OpenedRegion]
    }

    private static func sample() throws -> Sample {
        let small = try randomLog(11)
        for (segment, successor) in try sealed(small.fileSystem) {
            guard let footer = try FooterBuffer.read(segment, successor: successor) else {
                continue
            }
            let path = SmallLog.path(LogNames.segment(segment.id))
            return Sample(
                small: small, path: path, end: Int(successor.predecessorEnd),
                bytes: small.fileSystem.contents(path) ?? [], recordBytes: footer.records.count,
                state: state(try open(small.fileSystem, byFooters: false)))
        }
        throw ModelMismatch("no segment has a footer")
    }

    private static func isBelieved(_ sample: Sample, _ bytes: [UInt8]) throws -> Bool {
        let damaged = sample.small.fileSystem.copy()
        damaged.replace(sample.path, with: bytes)
        for (segment, successor) in try sealed(damaged)
        where SmallLog.path(LogNames.segment(segment.id)) == sample.path {
            return try FooterBuffer.read(segment, successor: successor) != nil
        }
        throw ModelMismatch("the segment is gone")
    }

    private static func expectScanned(_ sample: Sample, _ bytes: [UInt8], _ what: String) throws {
        #expect(try !isBelieved(sample, bytes), "\(what)")
        let damaged = sample.small.fileSystem.copy()
        damaged.replace(sample.path, with: bytes)
        #expect(state(try open(damaged, byFooters: true)) == sample.state, "\(what)")
    }

    @Test("a footer with any byte changed is not believed, and nothing is lost")
    func flips() throws {
        let sample = try Self.sample()
        #expect(try Self.isBelieved(sample, sample.bytes))
        for place in 0..<(FooterFormat.headerBytes + sample.recordBytes) {
            var flipped = sample.bytes
            flipped[sample.end + place] ^= 1 << UInt8(place % 8)
            try Self.expectScanned(sample, flipped, "byte \(place)")
        }
    }

    @Test("a footer that was cut anywhere is not believed, and nothing is lost")
    func prefixes() throws {
        let sample = try Self.sample()
        let length = FooterFormat.headerBytes + sample.recordBytes
        for kept in 0..<length {
            let start = sample.bytes[..<(sample.end + kept)]
            let isCut = kept % 2 == 0
            // The file ends there, or other bytes are there still.
            let rest =
                isCut ? [] : [UInt8](repeating: 0xff, count: sample.bytes.count - start.count)
            try Self.expectScanned(sample, start + rest, "\(kept) bytes")
        }
    }

    @Test("a right footer of another life, another segment or another place is not believed")
    func stale() throws {
        let sample = try Self.sample()
        let others = try (12...40).map { try Self.randomLog($0) } + [sample.small]
        var tried = 0
        for other in others {
            for (segment, successor) in try Self.sealed(other.fileSystem) {
                let path = SmallLog.path(LogNames.segment(segment.id))
                let footerOf = try FooterBuffer.read(segment, successor: successor)
                if footerOf == nil || other === sample.small && path == sample.path { continue }
                let bytes = other.fileSystem.contents(path) ?? []
                let footer = Array(bytes[Int(successor.predecessorEnd)...])
                try Self.expectScanned(
                    sample, sample.bytes[..<sample.end] + footer, "of \(path)")
                // And if its header says that it is this segment's.
                let header = try #require(try Self.header(sample))
                try Self.expectScanned(
                    sample,
                    sample.bytes[..<sample.end]
                        + Self.readdressed(footer, as: header, sample.end), "of \(path), renamed")
                tried += 1
            }
        }
        #expect(tried > 20)
    }

    private static func header(_ sample: Sample) throws -> FooterHeader? {
        sample.bytes[sample.end...].withUnsafeBytes { bytes in
            bytes.baseAddress.flatMap { FooterHeader.decode($0) }
        }
    }

    private static func readdressed(
        _ footer: [UInt8], as header: FooterHeader, _ end: Int
    ) -> [UInt8] {
        var footer = footer
        footer.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress,
                var own = FooterHeader.decode(UnsafeRawPointer(base))
            else { return }
            own.segment = header.segment
            own.incarnation = header.incarnation
            own.offset = header.offset
            own.lastLSN = header.lastLSN
            own.lastChecksum = header.lastChecksum
            own.encode(to: base)
        }
        return footer
    }

    @Test("a footer that says other than its frames is not believed, whatever its checksums")
    func lies() throws {
        let sample = try Self.sample()
        for place in 0..<(FrameFormat.headerBytes + FrameFormat.itemBytes) {
            var bytes = sample.bytes
            bytes[sample.end + FooterFormat.headerBytes + place] ^= 1
            Self.repair(&bytes, sample)
            try Self.expectScanned(sample, bytes, "byte \(place)")
        }
    }

    /// Makes the footer's checksums right again.
    private static func repair(_ bytes: inout [UInt8], _ sample: Sample) {
        bytes.withUnsafeMutableBytes { raw in
            guard let base = raw.baseAddress.map({ $0 + sample.end }),
                var header = FooterHeader.decode(UnsafeRawPointer(base))
            else { return }
            header.recordChecksum = CRC32C.checksum(
                UnsafeRawBufferPointer(
                    start: base + FooterFormat.headerBytes, count: sample.recordBytes))
            header.encode(to: base)
        }
    }

    @Test("what a footer says beside its frames is compared by verify")
    func details() throws {
        let sample = try Self.sample()
        func problem(_ bytes: [UInt8]) -> WALError? {
            let changed = sample.small.fileSystem.copy()
            changed.replace(sample.path, with: bytes)
            return WALInspector(fileSystem: changed, directory: SmallLog.directory).verify().problem
        }
        #expect(problem(sample.bytes) == nil)
        var believed = 0
        for place in 0..<sample.recordBytes {
            var bytes = sample.bytes
            bytes[sample.end + FooterFormat.headerBytes + place] ^= 1
            Self.repair(&bytes, sample)
            guard try Self.isBelieved(sample, bytes) else { continue }
            believed += 1
            let found = try #require(problem(bytes), "byte \(place)")
            #expect(found.code == .corrupted && found.position?.offset == UInt64(sample.end))
        }
        #expect(believed > 0)
    }

    // MARK: Crashes

    @Test("a power cut at any operation around sealing loses nothing that was acknowledged")
    func cuts() throws {
        var last = 0
        while true {
            last += 1
            let small = try SmallLog()
            let begin = small.fileSystem.operations
            let cut = begin + last
            small.fileSystem.setHook { (operation) throws(FileError) in
                guard operation.ordinal <= cut else {
                    throw FileError(
                        kind: .ioFailed, operation: "\(operation.kind)", path: operation.path)
                }
            }
            var acknowledged: UInt64 = 0
            for index in UInt64(1)...14 {
                guard let ticket = try? small.append(1, from: index, bytes: 2000) else { break }
                guard small.deliveries.contains(where: { $0.ticket >= ticket }) else { break }
                acknowledged = index
            }
            let isWhole = acknowledged == 14
            for seed in UInt64(1)...4 {
                var random = SeededRandom(seed: seed)
                let left = small.fileSystem.crashed(using: &random)
                try Self.expectSameByBoth(left, "cut at \(last), seed \(seed)")
                let opened = try Self.open(left, byFooters: true)
                let reached = opened.recovered.first?.lastIndex.rawValue ?? 0
                #expect(reached >= acknowledged, "cut at \(last), seed \(seed)")
            }
            if isWhole, small.fileSystem.operations < cut { break }
        }
        #expect(last > 30)
    }
}

/// All that opening makes of one region.
private struct OpenedRegion: Hashable {
    var recovered: RecoveredRegion
    var staged: StagedFacts
    var blocks: [IndexBlock]
    var firstIndex: LogIndex
    var hardStateSegment: UInt32
    var baseSegment: UInt32
    var identitySegment: UInt32
}

private struct StagedFacts: Hashable {
    var hardState: HardState
    var range: Range<LogIndex>
    var compactedTerm: Term
    var birth: Bytes?
    var tombstone: Bytes?
    var lastLSN: UInt64
    var isBaseKnown: Bool
    var isEndKnown: Bool

    init(_ state: RegionState) {
        hardState = state.hardState
        range = state.firstIndex..<state.lastIndex + 1
        compactedTerm = state.compactedTerm
        birth = state.birth
        tombstone = state.tombstone
        lastLSN = state.lastLSN
        isBaseKnown = state.isBaseKnown
        isEndKnown = state.isEndKnown
    }
}
