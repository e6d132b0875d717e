// Logs of format version 1 as files (Corpus/v1): what the first release wrote, every later one reads.
//
//   whole     every kind of record, a conflict, a repeated directory, a restart: segments 1 and up
//   purged    the same log later, when its oldest segments were removed
//   footers   as whole, its sealed segments with footers, which the first release did not write
//   compressed  compressed bodies beside others, one of them superseded in part, in two segments
//   expected  beside each: what a reader finds, a line for each region
//
// They were read by a second reader, too, written from docs/FORMATS.md alone. UKEHI_WRITE_GOLDEN=1
// writes them anew; if that changes a byte, the format has changed and needs a new version.

import Foundation
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Golden logs of format version 1")
struct GoldenTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "Corpus/v1")
    private static let names = ["whole", "purged", "footers", "compressed", "rewritten"]

    // MARK: What is in them

    private static func log(_ name: String) throws -> SimulatedFileSystem {
        if name == "compressed" { return try compressedLog() }
        if name == "rewritten" { return try rewrittenLog() }
        var options = SmallLog.options
        options.writesFooters = name == "footers"
        // A footer takes no more than an eighth of its segment.
        if options.writesFooters { options.segmentBytes = 64 << 10 }
        let first = try SmallLog(options: options, seed: 42)
        var batch = LogBatch()
        func write(_ small: SmallLog) throws {
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        func append(
            _ region: UInt64, _ first: UInt64, _ terms: [UInt64], bytes: Int = 20,
            kind: EntryKind = .normal
        ) {
            let entries = terms.enumerated().map { position, term in
                let index = first + UInt64(position)
                let data = [UInt8](
                    repeating: UInt8(truncatingIfNeeded: region &* 7 &+ index), count: bytes)
                return Entry(
                    term: Term(term), index: LogIndex(index), kind: kind, data: Bytes(data))
            }
            batch.append(
                region: RegionID(region),
                hardState: HardState(
                    term: Term(terms.last ?? 1), vote: PeerID(region + 1),
                    commit: LogIndex(first - 1)),
                entries: entries)
        }

        batch.birth(
            region: RegionID(1), payload: "one",
            hardState: HardState(term: Term(1), vote: .none, commit: .zero))
        append(1, 1, [1, 1, 2])
        try write(first)
        // Supersedes entry 3; region 2 has no birth record; an entry without data.
        append(1, 3, [3, 3])
        append(2, 1, [5, 5, 5, 6], bytes: 0)
        try write(first)
        for region in UInt64(100)..<160 { append(region, 1, [1], bytes: 5) }
        try write(first)
        batch.compact(region: RegionID(2), firstIndex: LogIndex(4), term: Term(5))
        batch.birth(region: RegionID(3), payload: "three", hardState: .empty)
        append(3, 1, [2])
        batch.reset(
            region: RegionID(3), index: LogIndex(50), term: Term(4),
            hardState: HardState(term: Term(4), vote: PeerID(9), commit: LogIndex(50)))
        append(3, 51, [4], bytes: 30, kind: .confChange)
        append(3, 52, [5], bytes: 40, kind: .confChangeV2)
        try write(first)
        batch.birth(region: RegionID(4), payload: "four", hardState: .empty)
        append(4, 1, [7, 7])
        batch.tombstone(region: RegionID(4), payload: "gone")
        // A vote alone.
        batch.append(
            region: RegionID(5),
            hardState: HardState(term: Term(8), vote: PeerID(2), commit: .zero), entries: [])
        try write(first)
        first.claim()

        // A restart: a new segment, skipped numbers, a named predecessor.
        let second = try SmallLog(first.fileSystem.copy(), options: options, seed: 43)
        append(1, 5, [3, 4], bytes: 3000)
        try write(second)
        if name == "footers" {
            // Until it goes on in a further segment.
            for index in UInt64(7)..<24 {
                append(1, index, [4], bytes: 3000)
                try write(second)
            }
        }
        if name != "purged" { return second.fileSystem }

        for region in UInt64(100)..<160 {
            batch.compact(region: RegionID(region), firstIndex: LogIndex(2), term: Term(1))
        }
        batch.compact(region: RegionID(1), firstIndex: LogIndex(7), term: Term(4))
        batch.compact(region: RegionID(2), firstIndex: LogIndex(5), term: Term(6))
        batch.compact(region: RegionID(3), firstIndex: LogIndex(53), term: Term(5))
        try write(second)
        append(1, 7, [4], bytes: 10)
        try write(second)
        while true {
            let step = try second.log.purgeStep()
            second.pump()
            if case .pinned = step { break }
            if case .done = step { break }
        }
        append(2, 5, [7])
        try write(second)
        return second.fileSystem
    }

    /// Bodies above and below the threshold. What LZ4 makes of them may change with its version, so
    /// the values are such that every version finds the same: runs, and bytes without any repetition.
    private static func compressedLog() throws -> SimulatedFileSystem {
        var options = SmallLog.options
        options.compressionThresholdBytes = 1 << 10
        options.writesFooters = false
        let first = try SmallLog(options: options, seed: 44)
        var random = SeededRandom(seed: 45)
        func append(_ small: SmallLog, _ region: UInt64, _ entries: [Entry]) throws {
            var batch = small.log.newBatch()
            batch.append(
                region: RegionID(region),
                hardState: HardState(
                    term: entries[0].term, vote: PeerID(1), commit: entries[0].index - 1),
                entries: entries)
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        try append(first, 1, SmallLog.entries(from: 1, count: 8, bytes: 400))
        try append(first, 2, SmallLog.entries(from: 1, count: 2, bytes: 200))
        let noise = Entry(term: Term(1), index: LogIndex(1), data: Bytes(random.bytes(3000)))
        try append(first, 3, [noise])
        // Supersedes the second half of region 1's first batch.
        try append(first, 1, SmallLog.entries(from: 5, count: 2, term: 2, bytes: 2000))
        first.claim()
        let second = try SmallLog(first.fileSystem.copy(), options: options, seed: 46)
        try append(second, 2, SmallLog.entries(from: 3, count: 3, term: 3, bytes: 1500))
        return second.fileSystem
    }

    /// Entries of several terms that were written again, and what came after; their old places are gone.
    private static func rewrittenLog() throws -> SimulatedFileSystem {
        let small = try SmallLog(options: SmallLog.options, seed: 47)
        func append(_ region: UInt64, _ entries: [Entry]) throws {
            var batch = LogBatch()
            batch.append(
                region: RegionID(region),
                hardState: HardState(term: Term(3), vote: PeerID(region), commit: .zero),
                entries: entries)
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        func compact(_ region: UInt64, to first: UInt64) throws {
            var batch = LogBatch()
            batch.compact(region: RegionID(region), firstIndex: LogIndex(first), term: Term(1))
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        try append(1, SmallLog.entries(from: 1, count: 4, bytes: 20))
        try append(2, SmallLog.entries(from: 1, count: 3, bytes: 20))
        try append(
            2,
            SmallLog.entries(from: 4, count: 2, term: 2, bytes: 30)
                + SmallLog.entries(from: 6, count: 2, term: 3, bytes: 40))
        for index in UInt64(1)...20 {
            try append(9, SmallLog.entries(from: index, count: 1, bytes: 3000))
        }
        // In a segment that stays for the time being.
        try append(2, SmallLog.entries(from: 8, count: 2, term: 3, bytes: 50))
        try compact(9, to: 20)
        for _ in 0..<20 {
            _ = try small.log.purgeStep()
            small.pump()
        }
        try append(1, SmallLog.entries(from: 3, count: 1, term: 4, bytes: 20))
        try compact(2, to: 3)
        return small.fileSystem
    }

    /// A line for each region, in the order of the expected files.
    private static func lines(_ report: WALInspector.AuditReport) -> [String] {
        report.regions.map { region in
            let state = region.hardState
            let checksum = String(region.entriesChecksum, radix: 16)
            let numbers: [UInt64] = [
                region.region.rawValue, region.firstIndex.rawValue, region.lastIndex.rawValue,
                state.term.rawValue, state.vote.rawValue, state.commit.rawValue,
                region.compactedTerm.rawValue, region.isBorn ? 1 : 0, region.isTombstone ? 1 : 0,
            ]
            return numbers.map { "\($0)" }.joined(separator: " ") + " "
                + String(repeating: "0", count: 8 - checksum.count) + checksum
        }
    }

    // MARK: Files

    /// The checked-in files of a log, on a simulated disk.
    private func stored(_ name: String) throws -> SimulatedFileSystem {
        let fileSystem = SimulatedFileSystem()
        let folder = Self.folder.appending(path: name)
        for file in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
            let bytes = try Data(contentsOf: folder.appending(path: file))
            fileSystem.replace(SmallLog.path(file), with: [UInt8](bytes))
        }
        return fileSystem
    }

    private func expected(_ name: String) throws -> [String] {
        let text = try String(
            contentsOf: Self.folder.appending(path: "\(name).expected"), encoding: .utf8)
        return text.split(separator: "\n").map { String($0) }
    }

    private func write(_ name: String, _ fileSystem: SimulatedFileSystem) throws {
        let folder = Self.folder.appending(path: name)
        try? FileManager.default.removeItem(at: folder)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for file in Self.files(fileSystem) {
            let bytes = fileSystem.contents(SmallLog.path(file)) ?? []
            try Data(bytes).write(to: folder.appending(path: file))
        }
        let report = WALInspector(fileSystem: fileSystem, directory: "/data").audit()
        let text = Self.lines(report).map { $0 + "\n" }.joined()
        try Data(text.utf8).write(to: Self.folder.appending(path: "\(name).expected"))
    }

    private static func files(_ fileSystem: SimulatedFileSystem) -> [String] {
        let found = try? LogDirectory.read(
            fileSystem, SmallLog.directory, forWriting: false)
        return ["mark"] + (found?.segments ?? []).map { LogNames.segment($0.id) }
    }

    // MARK: Tests

    @Test("this version reads what the first one wrote", arguments: names)
    func reads(name: String) throws {
        let report = WALInspector(fileSystem: try stored(name), directory: "/data").audit()
        #expect(report.problem == nil)
        #expect(report.differences == [])
        #expect(Self.lines(report) == (try expected(name)))
        // And a log goes on from it.
        let opened = try SmallLog(try stored(name), seed: 5)
        #expect(opened.recovered.count == report.regions.count)
        try opened.append(1, from: opened.recovered[0].lastIndex.rawValue + 1, term: 9)
    }

    @Test("footers that are stored are believed")
    func believed() throws {
        let found = try LogDirectory.read(
            try stored("footers"), SmallLog.directory, forWriting: false)
        #expect(found.segments.count == 3)
        for position in found.segments.indices {
            guard let successor = found.successor(of: position) else { continue }
            #expect(try FooterBuffer.read(found.segments[position], successor: successor) != nil)
        }
    }

    @Test("the compressed log has what it is there for")
    func compressed() throws {
        let report = WALInspector(fileSystem: try stored("compressed"), directory: "/data").stat()
        #expect(report.compressedBatches == 3)
        #expect(report.batches == 5)
        #expect(report.bodyBytes < report.rawBytes / 2)
        for name in Self.names {
            let sizes = WALInspector(fileSystem: try stored(name), directory: "/data").stat()
            #expect((sizes.bodyBytes == sizes.rawBytes) == (name != "compressed"))
        }
    }

    @Test("the log with rewrites has some, and no longer what they say again")
    func rewrites() throws {
        var rewrites: [BatchItem] = []
        var appends: [BatchItem] = []
        try WALInspector(fileSystem: try stored("rewritten"), directory: "/data").dump { record in
            guard case .frame(let frame) = record else { return true }
            rewrites += frame.batches.filter { $0.kind == .rewrite }
            appends += frame.batches.filter { $0.kind == .append && $0.region == RegionID(2) }
            return true
        }
        #expect(rewrites.contains { $0.region == RegionID(1) && $0.count == 4 })
        #expect(rewrites.contains { $0.region == RegionID(2) && $0.count == 7 })
        #expect(appends.allSatisfy { $0.firstIndex >= LogIndex(8) })
    }

    @Test("this version writes the same bytes still", arguments: names)
    func writes(name: String) throws {
        let fileSystem = try Self.log(name)
        if ProcessInfo.processInfo.environment["UKEHI_WRITE_GOLDEN"] == "1" {
            try write(name, fileSystem)
        }
        let stored = try stored(name)
        #expect(Self.files(fileSystem) == Self.files(stored))
        for file in Self.files(fileSystem) {
            let path = SmallLog.path(file)
            #expect(fileSystem.contents(path) == stored.contents(path), "\(file)")
        }
    }

    /// A file's version, at offset 12 of each of its copies, raised under a right checksum.
    private func raised(_ bytes: [UInt8], covered: Int, copies: [Int]) -> [UInt8] {
        var bytes = bytes
        for copy in copies {
            bytes[copy + 12] = 2
            let checksum = bytes[(copy + 12)..<(copy + covered)].withUnsafeBytes {
                CRC32C.checksum($0)
            }
            for byte in 0..<4 {
                bytes[copy + 8 + byte] = UInt8(truncatingIfNeeded: checksum >> UInt32(8 * byte))
            }
        }
        return bytes
    }

    @Test("an unknown version is refused, not misread", arguments: names)
    func version(name: String) throws {
        for file in Self.files(try stored(name)) {
            let newer = try stored(name)
            let path = SmallLog.path(file)
            let bytes = newer.contents(path) ?? []
            let covered = file == "mark" ? 48 : 88
            // One newer copy is enough: the older one may say less than there is.
            for copies in [[0, 4096], [0], [4096]] {
                newer.replace(path, with: raised(bytes, covered: covered, copies: copies))
                #expect(openingError(newer)?.code == .unsupportedVersion, "\(file) \(copies)")
                let report = WALInspector(fileSystem: newer, directory: "/data").verify()
                #expect(report.problem?.code == .unsupportedVersion, "\(file) \(copies)")
                #expect(report.problem?.code.exitCode == 24)
                #expect(report.entries == 0)
            }
        }
    }
}
