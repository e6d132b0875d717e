// What the tools are given to show.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Inspector")
struct InspectorTests {
    private func log() throws -> SmallLog {
        let small = try SmallLog()
        for index in UInt64(1)...30 {
            try small.append(1 + index % 2, from: (index + 1) / 2, bytes: 2000)
        }
        small.claim()
        return small
    }

    private func inspector(_ fileSystem: SimulatedFileSystem) -> WALInspector {
        WALInspector(fileSystem: fileSystem, directory: "/data")
    }

    @Test("a dump visits every segment, frame and entry in order, and stops when told")
    func dump() throws {
        let small = try log()
        var segments: [UInt64] = []
        var lsns: [UInt64] = []
        var entries: [RegionID: [UInt64]] = [:]
        try inspector(small.fileSystem).dump { record in
            switch record {
            case .segment(let info): segments.append(info.segment)
            case .frame(let info): lsns.append(info.lsn)
            case .entry(let info):
                entries[info.region, default: []].append(info.index.rawValue)
                #expect(info.bytes == 2000)
                #expect(info.checksum == CRC32C.checksum(info.data))
            }
            return true
        }
        #expect(segments == Array(1...UInt64(small.segmentNames.count)))
        #expect(lsns == Array(1...31))
        #expect(entries == [RegionID(1): Array(1...15), RegionID(2): Array(1...15)])
        var visited = 0
        try inspector(small.fileSystem).dump(LogFilter(region: RegionID(2))) { record in
            if case .entry(let info) = record { #expect(info.region == RegionID(2)) }
            visited += 1
            return visited < 5
        }
        #expect(visited == 5)
    }

    @Test("verify counts what is sound and places what is not")
    func verify() throws {
        let small = try log()
        let sound = inspector(small.fileSystem).verify()
        #expect(sound.problem == nil)
        #expect(sound.frames == 31)
        #expect(sound.entries == 30)
        #expect(sound.lastLSN == 31)
        #expect(sound.warnings == [])

        let damaged = small.fileSystem.copy()
        let path = SmallLog.path(small.segmentNames[1])
        var bytes = damaged.contents(path) ?? []
        bytes[5] ^= 1
        damaged.replace(path, with: bytes)
        #expect(inspector(damaged).verify().problem == nil)
        #expect(inspector(damaged).verify().warnings.count == 1)
        bytes[8192 + 1000] ^= 1
        damaged.replace(path, with: bytes)
        let report = inspector(damaged).verify()
        #expect(report.problem?.code == .corrupted)
        #expect(report.problem?.position == LogPosition(segment: 2, offset: 8192))
    }

    @Test("audit gives equal logs equal checksums, whatever their segments")
    func audit() throws {
        let small = try log()
        let other = try SmallLog(seed: 5)
        for index in UInt64(1)...15 {
            for region in UInt64(1)...2 {
                try other.submit(region, from: index, bytes: 2000)
            }
        }
        other.pump()
        let (a, b) = (inspector(small.fileSystem).audit(), inspector(other.fileSystem).audit())
        #expect(a.isSound && b.isSound)
        #expect(a.entries == 30)
        #expect(a.regions == b.regions)
        #expect(a.regions.map(\.lastIndex.rawValue) == [15, 15])
    }

    @Test("a directory without a log is said to be one")
    func noLog() {
        let report = inspector(SimulatedFileSystem()).verify()
        #expect(report.problem?.code == .unavailable)
    }
}
