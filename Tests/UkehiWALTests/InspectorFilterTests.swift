// What a filtered dump shows, and what it leaves out.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Inspector: filters")
struct InspectorFilterTests {
    /// Two regions of 15 entries, terms 1 and 2, a membership change, and records of other kinds.
    private func log() throws -> SmallLog {
        let small = try SmallLog()
        var batch = LogBatch()
        batch.birth(region: RegionID(1), payload: "one", hardState: .empty)
        _ = try small.log.submit(&batch, lane: 0)
        for index in UInt64(1)...15 {
            for region in UInt64(1)...2 {
                try small.append(region, from: index, term: index < 10 ? 1 : 2, bytes: 600)
            }
        }
        batch.append(
            region: RegionID(2), hardState: nil,
            entries: [
                Entry(term: Term(2), index: LogIndex(16), kind: .confChangeV2, data: "change"),
                Entry(term: Term(2), index: LogIndex(17), data: "data"),
            ])
        batch.compact(region: RegionID(1), firstIndex: LogIndex(5), term: Term(1))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.claim()
        return small
    }

    private struct Shown {
        var segments: [UInt64] = []
        var lsns: [UInt64] = []
        var kinds: [RecordKind] = []
        var entries: [WALInspector.EntryInfo] = []
    }

    private func dump(_ small: SmallLog, _ change: (inout LogFilter) -> Void) throws -> Shown {
        var filter = LogFilter()
        change(&filter)
        var shown = Shown()
        let inspector = WALInspector(fileSystem: small.fileSystem, directory: "/data")
        try inspector.dump(filter) { record in
            switch record {
            case .segment(let info): shown.segments.append(info.segment)
            case .frame(let info):
                shown.lsns.append(info.lsn)
                shown.kinds += info.batches.map(\.kind)
            case .entry(let info): shown.entries.append(info)
            }
            return true
        }
        return shown
    }

    @Test("each filter alone, and several together")
    func filters() throws {
        let small = try log()
        let all = try dump(small) { _ in }
        #expect(all.segments.count == small.segmentNames.count)
        #expect(all.entries.count == 32)
        #expect(all.kinds.count == 33)
        #expect(all.lsns.count == 32)

        let indexes = try dump(small) { $0.indexes = 4..<6 }
        #expect(indexes.entries.map(\.index.rawValue) == [4, 4, 5, 5])
        #expect(indexes.kinds == [.append, .append, .append, .append, .compact])

        let term = try dump(small) {
            $0.term = Term(2)
            $0.region = RegionID(1)
        }
        #expect(term.entries.map(\.index.rawValue) == Array(10...15))

        let others = try dump(small) { $0.recordKinds = [.birth, .compact] }
        #expect(others.kinds == [.birth, .compact])
        let changes = try dump(small) { $0.entryKinds = [.confChangeV2] }
        #expect(changes.entries.map(\.index.rawValue) == [16])
        #expect(changes.kinds == [.append])
        #expect(changes.segments == [all.segments.last])

        let either = try dump(small) {
            $0.recordKinds = [.birth]
            $0.entryKinds = [.confChangeV2]
        }
        #expect(either.kinds == [.birth, .append])
        #expect(either.entries.map(\.index.rawValue) == [16])

        let lsns = try dump(small) { $0.lsns = 30..<40 }
        // The claim has no batches, but the numbers ask for it.
        #expect(lsns.lsns == Array(30...32))
        let chosen = try dump(small) { $0.entry = { $0.bytes == 4 } }
        #expect(chosen.entries.map(\.index.rawValue) == [17])
        #expect(try dump(small) { $0.region = RegionID(9) }.segments.isEmpty)
    }

    @Test("a segment that a node reused while it was read is said to be that, not to be damaged")
    func recycled() throws {
        let small = try log()
        let fileSystem = small.fileSystem
        let path = SmallLog.path(small.segmentNames[1])
        var isReused = false
        var problem: WALError?
        do throws(WALError) {
            let inspector = WALInspector(fileSystem: fileSystem, directory: "/data")
            try inspector.dump { _ in
                if !isReused {
                    isReused = true
                    // As a node leaves it: the bytes of another life, and the mark moved on.
                    var bytes = fileSystem.contents(path) ?? []
                    bytes.replaceSubrange(
                        8192..., with: [UInt8](repeating: 0, count: bytes.count - 8192))
                    fileSystem.replace(path, with: bytes)
                    do throws(FileError) {
                        let mark = try fileSystem.open(SmallLog.path("mark"), .readWrite)
                        guard case .valid(var state) = try LogMark.read(from: mark) else {
                            return true
                        }
                        try state.advance(oldest: 3, newest: state.newest, in: mark)
                    } catch { Issue.record("the mark was not moved: \(error)") }
                }
                return true
            }
        } catch { problem = error }
        #expect(problem?.code == .recycled)
        #expect(problem?.position?.segment == 2)
    }

    @Test("reading tells how far it has come")
    func progress() throws {
        let small = try log()
        let told = Mutex<[UInt64]>([])
        var inspector = WALInspector(fileSystem: small.fileSystem, directory: "/data")
        inspector.onProgress = { done, total in
            #expect(done <= total)
            told.withLock { $0.append(done) }
        }
        #expect(inspector.verify().problem == nil)
        #expect(told.withLock { $0 } == [0])
    }
}
