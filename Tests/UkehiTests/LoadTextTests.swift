import Testing
import Ukehi
import UkehiBase
import UkehiNode

@testable import UkehiCommand

@Suite("Command line: load")
struct LoadTextTests {
    private static let names = NodeNames(
        topology: Topology(
            cluster: ClusterID(high: 1, low: 2), node: NodeID(1),
            nodes: [NodeAddress(node: NodeID(1), name: "n-1", address: "h:1")], regions: []))
    private static let hot = RegionLoadInfo(
        region: RegionID(7), range: KeyRange(lower: "a", upper: ""), readsPerSecond: 12_000,
        writesPerSecond: 3000, bytesPerSecond: 2048, sizeBytes: 3 << 20,
        hot: [
            HotRange(first: "k\u{1}", last: "k\u{1}", share: 0.75),
            HotRange(first: "l", last: "m", share: 0.25),
        ], refusal: "One key takes 75 % of the load.")
    private static let unknown = RegionLoadInfo(
        region: RegionID(8), range: .all, readsPerSecond: 0, writesPerSecond: 0.5,
        bytesPerSecond: 0, sizeBytes: nil, hot: [], refusal: "")

    private func lines(json: Bool) -> [String] {
        LoadText.lines(
            [Self.hot, Self.unknown], [RegionID(7): NodeID(1)], Self.names, json: json)
    }

    @Test("a line for each region, its parts below it, keys escaped")
    func table() throws {
        let lines = lines(json: false)
        #expect(lines.count == 5)
        #expect(lines[1].contains("n-1") && lines[1].contains("15000"))
        #expect(lines[1].contains("One key takes 75 %"))
        #expect(lines[2].contains("75 %  k\\x01 alone"))
        #expect(lines[3].contains("25 %  l to m"))
        #expect(lines[4].contains("unknown"))
    }

    @Test("one JSON object for each region")
    func json() throws {
        let lines = lines(json: true)
        #expect(lines.count == 2)
        #expect(lines[0].contains("\"first\":\"k\\\\x01\""))
        #expect(lines[0].contains("\"size_bytes\":3145728"))
        #expect(lines[1].contains("\"size_bytes\":null") && lines[1].contains("\"hot\":[]"))
        #expect(lines[1].contains("\"refusal\":null"))
    }

    @Test("below one region, or that nobody knows")
    func one() {
        #expect(LoadText.lines(Self.hot).count == 5)
        #expect(LoadText.lines(Self.hot)[2] == "not divided: One key takes 75 % of the load.")
        #expect(LoadText.lines(nil).count == 1)
    }
}
