// The files of snapshots that a node makes for others and gets from them. Names are made of integers
// only, whatever others say.
//
//   kept-REGION-INDEX    see SnapshotKeeper.swift
//   out-REGION-PEER-ID       made for a peer; ends with the transfer
//   in-REGION                what has come of one; ends with the transfer
//   install-REGION-PEER-INDEX-TERM
//                            whole, checked and durable: replaces the region's state and log now.
//                            The name is the mark of RULES 48 and decision 0016: it is durable before
//                            anything is replaced, and goes when all of it is.

package import UkehiBase
package import UkehiEnvironment
import UkehiState

/// A snapshot that is being installed, as its file's name says.
package struct SnapshotMark: Hashable, Sendable {
    package var region: RegionID
    package var peer: PeerID
    package var index: LogIndex
    package var term: Term

    package var name: String {
        "install-\(region.rawValue)-\(peer.rawValue)-\(index.rawValue)-\(term.rawValue)"
    }

    package init(region: RegionID, peer: PeerID, index: LogIndex, term: Term) {
        self.region = region
        self.peer = peer
        self.index = index
        self.term = term
    }

    /// The mark that a file's name is; nil if it is none.
    package init?(name: String) {
        let parts = name.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0] == "install" else { return nil }
        let numbers = parts.dropFirst().compactMap { UInt64($0) }
        guard numbers.count == 4, numbers.allSatisfy({ $0 < 1 << 62 }) else { return nil }
        self.init(
            region: RegionID(numbers[0]), peer: PeerID(numbers[1]), index: LogIndex(numbers[2]),
            term: Term(numbers[3]))
        guard self.name == name else { return nil }
    }
}

/// Paths in a node's directory of snapshots, and what is done to them. Blocking calls: off the lane.
package struct SnapshotFiles: Sendable {
    package let fileSystem: any FileSystem
    package let directory: String

    package init(_ fileSystem: any FileSystem, directory: String) {
        self.fileSystem = fileSystem
        self.directory = directory
    }

    func outgoing(_ region: RegionID, _ peer: PeerID, _ id: UInt64) -> String {
        "\(directory)/out-\(region.rawValue)-\(peer.rawValue)-\(id)"
    }
    func incoming(_ region: RegionID) -> String { "\(directory)/in-\(region.rawValue)" }
    func kept(_ region: RegionID, _ index: LogIndex) -> String {
        "\(directory)/kept-\(region.rawValue)-\(index.rawValue)"
    }
    /// The index in the name of a region's kept snapshot; nil if it is none.
    package static func keptIndex(_ name: String, _ region: RegionID) -> LogIndex? {
        let start = "kept-\(region.rawValue)-"
        guard name.hasPrefix(start), let index = UInt64(name.dropFirst(start.count)),
            index < 1 << 62, name == "\(start)\(index)"
        else { return nil }
        return LogIndex(index)
    }
    func path(_ mark: SnapshotMark) -> String { "\(directory)/\(mark.name)" }

    /// Makes the directory and removes what no transfer can go on with, marks excepted; returns those,
    /// ascending by region and index.
    func prepare() throws(FileError) -> [SnapshotMark] {
        try fileSystem.createDirectory(directory)
        // A mark in a directory that a crash takes away is none.
        try fileSystem.syncDirectory(SnapshotFileWriter.parent(of: directory))
        var marks: [SnapshotMark] = []
        for name in try fileSystem.list(directory) {
            if let mark = SnapshotMark(name: name) {
                marks.append(mark)
            } else if name.hasPrefix("out-") || name.hasPrefix("in-")
                || name.hasSuffix(".partial")
            {
                try fileSystem.remove("\(directory)/\(name)")
            }
        }
        return marks.sorted { ($0.region, $0.index) < ($1.region, $1.index) }
    }

    /// Step 1 of an installation: from now on it is repeated at each start until it is done.
    func mark(_ path: String, as mark: SnapshotMark) throws(FileError) {
        try fileSystem.rename(path, to: self.path(mark))
        try fileSystem.syncDirectory(directory)
    }

    /// The last step where the state is in memory: what was installed is what is kept, once the directory is
    /// synced.
    func rename(_ mark: SnapshotMark) throws(FileError) {
        try fileSystem.rename(path(mark), to: kept(mark.region, mark.index))
    }

    /// The last step. That it is gone need not be durable: a mark of what is done is removed at a start.
    func remove(_ mark: SnapshotMark) { try? fileSystem.remove(path(mark)) }
    func remove(_ path: String) { try? fileSystem.remove(path) }
}
