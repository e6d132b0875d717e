// What a node remembers of the map of regions: what it has told, what it was told, and, of whoever leads the system
// region, what is to be written (NodeCore+RegionMap.swift).

import UkehiBase
import UkehiRaft

/// One rule over the system region, as who reports sees it.
struct MapReign: Hashable {
    var node: NodeID
    var term: Term
    /// Of the reporter: what it has told was of that.
    var generation: UInt64
}

/// What a node remembers of the map, and of telling it.
struct MapKeeping {
    var map = RegionMap()

    // Of who leads regions:

    /// Regions led here that changed, or came, since they were told.
    var untold: Set<RegionID> = []
    /// Who was told of all others.
    var told: MapReign?
    /// The report that has not been answered, and the look at which it was sent.
    var report: (number: UInt64, regions: [RegionID], look: UInt64)?
    var lastReport: UInt64 = 0

    // Of who follows:

    /// Who says to lead the system region, how far its map is, and the look at which it said so.
    var heard: (node: NodeID, term: Term, revision: UInt64, look: UInt64)?
    /// The look at which changes were asked for that have not come.
    var askedAt: UInt64?
    /// Of regions that this node heard of otherwise since its start: the generation that it was of then.
    var heardAt: [RegionID: UInt64] = [:]

    // Of who leads the system region:

    /// The term it leads in; zero: it does not.
    var term = Term.zero
    var isLoaded = false
    /// A write, or what comes before loading, is under way.
    var isBusy = false
    /// Reports that are to be judged, and those whose turn is next, descending by region.
    var incoming: [RegionID: RegionReport] = [:]
    var nextUp: [RegionReport] = []
    /// Records of regions that have no place in the map any more.
    var garbage: Set<RegionID> = []

    /// It leads the system region from now on, or, at zero, does not.
    mutating func leads(in term: Term) {
        guard self.term != term else { return }
        self.term = term
        isLoaded = false
        isBusy = false
        incoming = [:]
        nextUp = []
        garbage = []
    }

    /// A recovery from a lost quorum may have taken what was written (RULES 74). What is known of regions stays
    /// until something of this generation takes its place: some of them nobody may report any more.
    mutating func beginsGeneration() {
        map.forgetRevision()
        told = nil
        isLoaded = false
        heard = nil
    }

    /// A report is worth judging.
    mutating func took(_ report: RegionReport) {
        let region = report.region.region
        if let known = incoming[region], !report.isNewer(than: known) { return }
        incoming[region] = report
    }

    /// The next reports to be judged, of about so many bytes.
    mutating func takeIncoming(_ count: Int, bytes limit: Int) -> [RegionReport] {
        if nextUp.isEmpty {
            nextUp = incoming.values.sorted { $0.region.region > $1.region.region }
            incoming = [:]
        }
        var batch: [RegionReport] = []
        var bytes = 0
        while batch.count < count, bytes < limit, let report = nextUp.popLast() {
            batch.append(report)
            bytes += RegionReport.bytes(of: report.region)
        }
        return batch
    }
}

extension SystemKey {
    /// Keys of regions' records end before that.
    private static let regions: (lower: Bytes, upper: Bytes) = ("region/", "region0")
    static var regionsEnd: Bytes { regions.upper }
    static var regionsBegin: Bytes { regions.lower }

    static func region(_ region: RegionID) -> Bytes {
        var writer = ByteWriter(chunkCapacity: 32)
        writer.append(regions.lower)
        writer.append(region.rawValue.byteSwapped)
        return writer.take()
    }

    /// The region of a record's key; nil: it is none.
    static func region(of key: Bytes) -> RegionID? {
        guard key.count == regions.lower.count + 8 else { return nil }
        var reader = ByteReader(key)
        guard (try? reader.readBytes(regions.lower.count)) == regions.lower,
            let id = try? reader.read(UInt64.self)
        else { return nil }
        return RegionID(id.byteSwapped)
    }
}
