// Giving up a damaged log's end: what is left is what the log held before the damaged frame, and what
// was taken away is kept whole, wherever the power goes.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// Logs of several segments, frame by frame, with what each frame made of them.
private struct CutBed {
    static let kept = "/data/wal.cut"
    let fileSystem: SimulatedFileSystem
    /// What a log holds that ends before this LSN.
    private(set) var before: [UInt64: ModelLog] = [:]
    /// The frames with bodies, in log order.
    private(set) var frames: [WALInspector.FrameInfo] = []
    private(set) var segments: [WALInspector.SegmentInfo] = []

    init(seed: UInt64) throws {
        let small = try SmallLog(seed: seed)
        var random = SeededRandom(seed: seed)
        var model = ModelLog()
        var models = [model]
        while small.segmentNames.count < 4 {
            var batch = small.log.newBatch()
            for _ in 0..<3 { model.change(&random, &batch, regionCount: 3, maxData: 300) }
            if batch.isEmpty { continue }
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
            models.append(model)
        }
        small.claim()
        small.log.stop()
        fileSystem = small.fileSystem
        var segments: [WALInspector.SegmentInfo] = []
        var frames: [WALInspector.FrameInfo] = []
        try WALInspector(fileSystem: fileSystem, directory: SmallLog.directory).dump { record in
            switch record {
            case .segment(let segment): segments.append(segment)
            case .frame(let frame) where !frame.isClaim: frames.append(frame)
            default: break
            }
            return true
        }
        // One frame a batch: nothing else was waiting.
        try #require(frames.count == models.count - 1)
        for (position, frame) in frames.enumerated() {
            before[frame.lsn] = models[position].withoutEmpty
        }
        self.frames = frames
        self.segments = segments
    }

    /// The disk with a bit of that frame's header changed.
    func damaged(_ frame: WALInspector.FrameInfo) throws -> SimulatedFileSystem {
        let disk = fileSystem.copy()
        let path = SmallLog.path(LogNames.segment(frame.segment))
        var bytes = try #require(disk.contents(path))
        bytes[Int(frame.offset) + 20] ^= 1
        disk.replace(path, with: bytes)
        return disk
    }
}

private func plan(_ disk: SimulatedFileSystem) throws(WALError) -> LogCut? {
    try LogCut.plan(disk, directory: SmallLog.directory)
}

private func apply(_ cut: LogCut, _ disk: SimulatedFileSystem) throws(WALError) {
    try cut.apply(disk, directory: SmallLog.directory, keeping: CutBed.kept)
}

/// What a node would find.
private func model(_ disk: SimulatedFileSystem) throws -> ModelLog {
    let small = try SmallLog.reopened(disk)
    return try ModelLog.of(small.log, small.recovered).withoutEmpty
}

extension ModelLog {
    /// A region that was looked at and not written is in a model, and in no log; one that a record says
    /// nothing of is in both.
    fileprivate var withoutEmpty: ModelLog {
        var kept = self
        kept.regions = regions.filter { $0.value != ModelRegion() }
        return kept
    }
}

@Suite("Cutting a damaged log")
struct LogCutTests {
    @Test("what is left is the log as it was before the damaged frame", arguments: [1, 2, 3])
    func prefixes(seed: UInt64) throws {
        let bed = try CutBed(seed: seed)
        #expect(try plan(bed.fileSystem) == nil)
        for frame in bed.frames {
            let disk = try bed.damaged(frame)
            let cut = try #require(try plan(disk))
            #expect(cut.place == LogPosition(segment: frame.segment, offset: frame.offset))
            #expect(cut.loss.isUnknown && cut.problem.code == .corrupted)
            #expect(cut.segments == bed.segments.map(\.segment).filter { $0 > frame.segment })
            try apply(cut, disk)
            #expect(try plan(disk) == nil)
            #expect(try model(disk) == bed.before[frame.lsn], "frame \(frame.lsn)")
        }
    }

    @Test("a segment that is missing, cut off or without a header goes with all behind it")
    func segments() throws {
        let bed = try CutBed(seed: 4)
        let second = bed.segments[1]
        let path = SmallLog.path(second.fileName)
        let firstInSecond = try #require(bed.frames.first { $0.segment == second.segment })
        let bytes = try #require(bed.fileSystem.contents(path))
        let cutAt = Int(firstInSecond.offset) + firstInSecond.bytes + 100
        for damage in ["missing", "no header", "cut off"] {
            let disk = bed.fileSystem.copy()
            var lost = firstInSecond.lsn
            switch damage {
            case "missing": try disk.remove(path)
            case "no header":
                disk.replace(path, with: [UInt8](repeating: 0, count: 8192) + bytes[8192...])
            default:
                disk.replace(path, with: Array(bytes[..<cutAt]))
                lost = try #require(
                    bed.frames.first {
                        $0.segment == second.segment
                            && $0.offset + UInt64($0.bytes) > UInt64(cutAt)
                    }
                ).lsn
            }
            let cut = try #require(try plan(disk), "\(damage)")
            #expect(cut.place.segment == second.segment)
            try apply(cut, disk)
            #expect(try plan(disk) == nil, "\(damage)")
            #expect(try model(disk) == bed.before[lost], "\(damage)")
        }
    }

    @Test("where nothing would be left, and where nothing can be told, there is no cut")
    func impossible() throws {
        let bed = try CutBed(seed: 5)
        let first = SmallLog.path(bed.segments[0].fileName)
        let bytes = try #require(bed.fileSystem.contents(first))
        let headless = bed.fileSystem.copy()
        headless.replace(first, with: [UInt8](repeating: 0, count: bytes.count))
        let markless = bed.fileSystem.copy()
        markless.replace(SmallLog.path(LogNames.mark), with: [UInt8](repeating: 0, count: 8192))
        let foreign = bed.fileSystem.copy()
        foreign.replace(SmallLog.path("notes.txt"), with: [1])
        for (disk, code) in [
            (headless, WALError.Code.corrupted), (markless, .corrupted), (foreign, .identity),
        ] {
            let error = #expect(throws: WALError.self) { try plan(disk) }
            #expect(error?.code == code)
        }
    }

    @Test("a log that is in use is not cut")
    func inUse() throws {
        let bed = try CutBed(seed: 6)
        let cut = try #require(try plan(try bed.damaged(bed.frames[3])))
        let running = try SmallLog(bed.fileSystem.copy())
        let error = #expect(throws: WALError.self) { try apply(cut, running.fileSystem) }
        #expect(error?.code == .locked)
        running.log.stop()
    }

    @Test("all that is taken away is kept, and put back undoes the cut")
    func undo() throws {
        let bed = try CutBed(seed: 7)
        let frame = bed.frames[bed.frames.count / 2]
        let disk = try bed.damaged(frame)
        let damaged = disk.copy()
        let cut = try #require(try plan(disk))
        try apply(cut, disk)
        for name in try disk.list(CutBed.kept) {
            let kept = try #require(disk.contents(CutBed.kept + "/" + name))
            #expect(kept == damaged.contents(SmallLog.path(name)), "\(name)")
            disk.replace(SmallLog.path(name), with: kept)
        }
        for name in try damaged.list(SmallLog.directory) {
            #expect(
                disk.contents(SmallLog.path(name)) == damaged.contents(SmallLog.path(name)),
                "\(name)")
        }
    }

    @Test(
        "power that goes at any of its operations leaves the damage or the cut", arguments: [8, 9])
    func crashes(seed: UInt64) throws {
        let bed = try CutBed(seed: seed)
        let frame = try #require(bed.frames.first { $0.segment == bed.segments[1].segment })
        let damaged = try bed.damaged(frame)
        let cut = try #require(try plan(damaged))
        let whole = damaged.copy()
        let start = whole.operations
        try apply(cut, whole)
        let count = whole.operations - start
        #expect(count > 10)
        var finished = 0
        for stop in 1...count {
            for tear in [512, 4096] {
                var random = SeededRandom(seed: seed &* 1000 + UInt64(stop * 2 + tear))
                let disk = damaged.copy()
                disk.setTearBytes(tear)
                let last = disk.operations + stop
                disk.setHook { operation throws(FileError) in
                    guard operation.ordinal >= last else { return }
                    throw FileError(
                        kind: .ioFailed, operation: "\(operation.kind)", path: operation.path,
                        errno: 5)
                }
                try? apply(cut, disk)
                disk.setHook(nil)
                let after = disk.crashed(using: &random)
                if let again = try plan(after) {
                    #expect(again.place == cut.place, "stopped at \(stop)")
                    try apply(again, after)
                } else {
                    finished += 1
                }
                #expect(try plan(after) == nil, "stopped at \(stop)")
                #expect(try model(after) == bed.before[frame.lsn], "stopped at \(stop)")
                // Whatever was overwritten or moved is there as it was.
                for name in try damaged.list(SmallLog.directory) where name.hasSuffix(".wal") {
                    let was = damaged.contents(SmallLog.path(name))
                    let there = [SmallLog.directory, CutBed.kept].contains {
                        after.contents($0 + "/" + name) == was
                    }
                    #expect(there, "\(name), stopped at \(stop)")
                }
            }
        }
        #expect(finished < count)
    }
}
