"""Headers as cameras, capture programs and observatories write them, each with what it must be understood as.

`Sample.seen` says where the cards were seen; names, sites, dates and serial numbers are invented. Each row stands for
the program in `docs/cameras.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from ostcal.fits.cards import Header
from ostcal.frames import FrameType

BIAS, DARK, FLAT, LIGHT = FrameType


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a frame is understood as; ``None`` is "not recorded"."""

    kind: FrameType | None
    exposure_s: float | None
    gain: float | None = None
    offset: float | None = None
    binning: tuple[int, int] = (1, 1)
    filter_name: str | None = None
    temperature_c: float | None = None
    camera: str | None = None
    night: date | None = None
    bayer: str | None = None
    is_master: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further settings: coadds, subframe_origin, row_order, readout_mode, iso."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A header as a program writes it, and the name of the file."""

    program: str
    seen: str = "documentation"
    """Where the cards were seen: in a published header of a file, in reports of users, in source text that reads
    such files, or in documentation alone."""
    path: str
    cards: str
    expected: Expected

    @property
    def header(self) -> Header:
        """The cards, of 80 characters each."""
        return Header([line.strip("\n").ljust(80)[:80] for line in self.cards.strip("\n").splitlines()])


SAMPLES = (
    Sample(
        program="N.I.N.A.",
        seen="a file",
        path="FLAT/2026-01-10_18-05-11_Ha_-10.00_1.25s_0003.fits",
        cards="""
IMAGETYP= 'FLAT'               / Type of exposure
EXPOSURE= 1.25                 / [s] Exposure duration
EXPTIME = 1.25                 / [s] Exposure duration
DATE-LOC= '2026-01-10T19:05:11.250' / Time of observation (local)
DATE-OBS= '2026-01-10T18:05:11.250' / Time of observation (UTC)
XBINNING= 1                    / X axis binning factor
YBINNING= 1                    / Y axis binning factor
GAIN    = 100                  / Sensor gain
OFFSET  = 50                   / Sensor gain offset
EGAIN   = 0.243                / [e-/ADU] Electrons per A/D unit
XPIXSZ  = 3.76                 / [um] Pixel X axis size
YPIXSZ  = 3.76                 / [um] Pixel Y axis size
INSTRUME= 'ZWO ASI2600MM Pro'  / Imaging instrument name
SET-TEMP= -10.0                / [degC] CCD temperature setpoint
CCD-TEMP= -10.1                / [degC] CCD temperature
READOUTM= 'Default'            / Sensor readout mode
FILTER  = 'Ha'                 / Active filter name
ROWORDER= 'TOP-DOWN'           / FITS Image Orientation
SWCREATE= 'N.I.N.A. 3.1.2.9001 (x64)' / Software that created this file
""",
        expected=Expected(
            kind=FLAT, exposure_s=1.25, gain=100, offset=50, filter_name="Ha", temperature_c=-10.0,
            camera="ZWO ASI2600MM Pro", night=date(2026, 1, 10),
            settings={"row_order": "TOP-DOWN", "readout_mode": "Default"},
        ),
    ),
    Sample(
        program="Sequence Generator Pro",
        seen="a file",
        path="dark_300sec_1x1_-18.fit",
        cards="""
OBJECT  = 'Target  '           / Object name
DATE-OBS= '2026-01-11T00:22:49.0968820' / UTC observation date
IMAGETYP= 'DARK    '           / Type of frame
CREATOR = 'Sequence Generator Pro v3.1.0.479' / Capture software
INSTRUME= 'ZWO ASI294MC Pro'   / Instrument name
EXPOSURE=                  300 / Exposure time in seconds
CCD-TEMP=                -17.5 / Camera cooler temperature
SET-TEMP=                  -18 / Camera cooler target temperature
XBINNING=                    1 / Camera X Bin
CCDXBIN =                    1 / Camera X Bin
YBINNING=                    1 / Camera Y Bin
CCDYBIN =                    1 / Camera Y Bin
GAIN    =                  120 / Sensor gain
OFFSET  =                   30 / Sensor offset
""",
        expected=Expected(
            kind=DARK, exposure_s=300, gain=120, offset=30, temperature_c=-18, camera="ZWO ASI294MC Pro",
            night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="MaxIm DL",
        seen="a file",
        path="domeflat_V_001.fit",
        cards="""
DATE-OBS= '2026-01-10T23:52:48.33' /YYYY-MM-DDThh:mm:ss observation, UT
EXPTIME =   7.6150000000000006 /Exposure time in seconds
EXPOSURE=   7.6150000000000006 /Exposure time in seconds
SET-TEMP=  -25.000000000000000 /CCD temperature setpoint in C
CCD-TEMP=  -25.020270000000000 /CCD temperature at start of exposure in C
XPIXSZ  =   13.000000000000000 /Pixel Width in microns (after binning)
YPIXSZ  =   13.000000000000000 /Pixel Height in microns (after binning)
XBINNING=                    2 /Binning factor in width
YBINNING=                    2 /Binning factor in height
XORGSUBF=                  128 /Subframe X position in binned pixels
YORGSUBF=                   64 /Subframe Y position in binned pixels
READOUTM= 'Monochrome' /        Readout mode of image
FILTER  = 'V       ' /          Filter used when taking image
IMAGETYP= 'Flat Field' /        Type of image
OBJECT  = '        '
NOTES   = '        '
FLIPSTAT= 'Flip/Rotate 90 CW'
INSTRUME= 'Apogee USB/Net' /    instrument or camera used
ROWORDER= 'TOP-DOWN' /          Image write order, BOTTOM-UP or TOP-DOWN
PEDESTAL=                    0 /Correction to add for zero-based ADU
SWCREATE= 'MaxIm DL Version 6.50' /Name of software
""",
        expected=Expected(
            kind=FLAT, exposure_s=7.615, binning=(2, 2), filter_name="V", temperature_c=-25, camera="Apogee USB/Net",
            night=date(2026, 1, 10),
            settings={"subframe_origin": (128, 64), "row_order": "TOP-DOWN", "flip": "Flip/Rotate 90 CW"},
        ),
    ),
    Sample(
        program="SharpCap",
        seen="a file",
        path="darks/2026-01-10/rawframes/Stack_00001 280.0s Gain100.fits",
        cards="""
BZERO   =                32768 /
BSCALE  =                    1 /
ROWORDER= 'TOP-DOWN'           /
EXPTIME =                  280 / seconds
XPIXSZ  =                  2.4 / microns, includes binning if any
YPIXSZ  =                  2.4 / microns, includes binning if any
XBINNING=                    1 /
YBINNING=                    1 /
CCD-TEMP=                 -0.5 / C
SWCREATE= 'SharpCap v4.1.12946.0, 64 bit' /
DATE-OBS= '2026-01-10T20:11:12.3456789' / System Clock:Est. Frame Start
DATE-END= '2026-01-10T20:15:52.3456789' / System Clock:Est. Frame End
JD_UTC  =   2461051.3425925926 / Julian Date at mid exposure
RDNOISE =                  1.7 / Read noise in electrons
COLORTYP= 'RGB'                /
INSTRUME= 'ZWO ASI183MC Pro'   /
""",
        expected=Expected(
            kind=DARK, exposure_s=280, gain=100, temperature_c=-0.5, camera="ZWO ASI183MC Pro",
            night=date(2026, 1, 10), settings={"row_order": "TOP-DOWN"},
        ),
    ),
    Sample(
        program="ASIAIR",
        path="Flat/Flat_250.0ms_Bin1_2600MC_gain100_20260110-190511_-10.0C_0001.fit",
        cards="""
OFFSET  =                   50 / Brightness(offset)
INSTRUME= 'ZWO ASI2600MC Pro'  / Camera model
EXPOSURE=                 0.25 / Exposure time in seconds
EXPTIME =                 0.25 / Exposure time in seconds
XBINNING=                    1 / Camera X Bin
YBINNING=                    1 / Camera Y Bin
CCD-TEMP=                -10.0 / Sensor temperature in C
SET-TEMP=                  -10 / Set temperature in C
GAIN    =                  100 / Gain Value
BAYERPAT= 'RGGB    '           / Bayer pattern
IMAGETYP= 'Flat    '           / Type of image
DATE-OBS= '2026-01-10T19:05:11.062125' / Image created time
CREATOR = 'ZWO ASIAIR'         / Capture software
""",
        expected=Expected(
            kind=FLAT, exposure_s=0.25, gain=100, offset=50, temperature_c=-10, camera="ZWO ASI2600MC Pro",
            night=date(2026, 1, 10), bayer="RGGB",
        ),
    ),
    Sample(
        program="ASIStudio (ASICap)",
        path="Dark/2026-01-10-2011_3-CapObj_0001.FIT",
        cards="""
XBINNING=                    2 / Binning factor in width
YBINNING=                    2 / Binning factor in height
EXPOINUS=              2000000 / Exposure time in us
GAIN    =                  200 / The ratio of output / input
OFFSET  =                    8 / Brightness(offset) of image
CCD-TEMP=                 -4.5 / sensor temperature in C
INSTRUME= 'ZWO ASI1600MM-Cool' / camera model
DATE-OBS= '2026-01-10T20:11:12.345' / UTC
""",
        expected=Expected(
            kind=DARK, exposure_s=2.0, gain=200, offset=8, binning=(2, 2), temperature_c=-4.5,
            camera="ZWO ASI1600MM-Cool", night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="Ekos / INDI / KStars",
        path="Bias/Bias_001.fits",
        cards="""
ROWORDER= 'TOP-DOWN'           / Row Order
INSTRUME= 'QHY CCD QHY600M'    / CCD Name
EXPTIME =        1.000000E-003 / Total Exposure Time (s)
CCD-TEMP=       -1.000000E+001 / CCD Temperature (Celsius)
PIXSIZE1=        3.760000E+000 / Pixel Size 1 (microns)
PIXSIZE2=        3.760000E+000 / Pixel Size 2 (microns)
XBINNING=                    1 / Binning factor in width
YBINNING=                    1 / Binning factor in height
FRAME   = 'Bias    '           / Frame Type
IMAGETYP= 'Bias Frame'         / Frame Type
GAIN    =        5.600000E+001 / Gain
OFFSET  =        1.000000E+001 / Offset
DATE-OBS= '2026-01-10T20:11:12.345' / UTC start date of observation
""",
        expected=Expected(
            kind=BIAS, exposure_s=0.001, gain=56, offset=10, temperature_c=-10, camera="QHY CCD QHY600M",
            night=date(2026, 1, 10), settings={"row_order": "TOP-DOWN"},
        ),
    ),
    Sample(
        program="Astro Photography Tool (APT)",
        seen="a file",
        path="D_0001_60s.fit",
        cards="""
OBJECT  = 'TEST    '           / The name of Object Imaged
INSTRUME= 'ZWO ASI294MC Pro'   / The model Camera used
DATE-OBS= '2026-01-10T21:04:46' / The UTC date and time at the start of the expo
HIERARCH CAMERA-DATE-OBS = '2026-01-10T21:04:46' / The UTC date and time at the
EXPTIME =                 240. / The total exposure time in seconds
XPIXSZ  =                 4.63 / Pixel width in microns (after binning)
YPIXSZ  =                 4.63 / Pixel height in microns (after binning)
XBINNING=                    1 / Binning factor in width
YBINNING=                    1 / Binning factor in height
XORGSUBF=                    0 / Sub frame X position
YORGSUBF=                    0 / Sub frame Y position
EGAIN   =     1.00224268436432 / Electronic gain in e-/ADU
SWCREATE= 'Astro Photography Tool - APT v.3.54.1' / Imaging software
SNAPSHOT=                    1 / Number of images combined
SET-TEMP=                 -15. / The setpoint of the cooling in C
IMAGETYP= 'Dark Frame'         / The type of image
SITELONG= '+03 41 00.000'      / The site Longitude
SITELAT = '+51 03 00.000'      / The site Latitude
GAIN    =                  120 / The gain set (if supported)
""",
        expected=Expected(
            kind=DARK, exposure_s=240, gain=120, temperature_c=-15, camera="ZWO ASI294MC Pro",
            night=date(2026, 1, 10), settings={"subframe_origin": (0, 0)},
        ),
    ),
    Sample(
        program="Astro Photography Tool (APT, photo camera)",
        path="D_0001_ISO800_60s__14C.fit",
        cards="""
DATE-OBS= '2026-01-10T20:11:12.345' / UTC
EXPTIME =                 60.0 / Exposure time in seconds
EXPOSURE=                 60.0 / Exposure time in seconds
ISOSPEED= 'ISO800  '
CCD-TEMP= '14,0    '
IMAGETYP= 'Dark Frame'
INSTRUME= 'Canon EOS 1100D'
XBINNING=                    1
YBINNING=                    1
BAYERPAT= 'RGGB    '
SWCREATE= 'Astro Photography Tool - APT v.4.20'
""",
        expected=Expected(
            kind=DARK, exposure_s=60, gain=800, temperature_c=14, camera="Canon EOS 1100D", night=date(2026, 1, 10),
            bayer="RGGB",
        ),
    ),
    Sample(
        program="Voyager",
        path="Voyager_Flat_R_2x2_001.FIT",
        cards="""
IMAGETYP= 'FLAT    '           / Type of image
EXPOSURE=                 3.52 / Exposure time in seconds
EXPTIME =                 3.52 / Exposure time in seconds
DATE-OBS= '2026-01-10T17:01:12.345' / UTC
XBINNING=                    2
YBINNING=                    2
CCD-TEMP=                -20.1
SET-TEMP=                -20.0
FILTER  = 'R       '
GAIN    =                 2750
OFFSET  =                   76
INSTRUME= 'Moravian G3-16200'
SWCREATE= 'Voyager 2.3.10'
""",
        expected=Expected(
            kind=FLAT, exposure_s=3.52, gain=2750, offset=76, binning=(2, 2), filter_name="R", temperature_c=-20,
            camera="Moravian G3-16200", night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="Prism",
        path="DARK_300s_0001.fits",
        cards="""
DATE-OBS= '10/01/2026'         / Date of observation DD/MM/YYYY
UT-START= '20:11:12.3'         / UT of start
EXPOSURE=                  300 / Exposure time in seconds
BINX    =                    2 / binning factor
BINY    =                    2 / binning factor
CCD-TEMP=                -30.0
CAMERA  = 'FLI PL16803'
FILTER  = 'Clear   '
IMAGETYP= 'DARK    '
""",
        expected=Expected(
            kind=DARK, exposure_s=300, binning=(2, 2), filter_name="Clear", temperature_c=-30, camera="FLI PL16803",
            night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="TheSkyX",
        seen="a file",
        path="Dark 2x2 120.000secs 00006862.fits",
        cards="""
SBUUID  = '{00000000-0000-0000-0000-000000000000}' / Photo UUID
EXPTIME =                 120. / SBIGFITSEXT Total exposure time in seconds
SWCREATE= 'TheSkyX Version 10.5.0 Build 12978' / SBIGFITSEXT Name & version of s
COLORCCD=                    0 / Non zero if image is from a Bayer color ccd
PICTTYPE=                    3 / Image type as index 0= Unknown 1=Light, 2=Bias,
IMAGETYP= 'Dark Frame'         / SBIGFITSEXT Light, Dark, Bias or Flat
XORGSUBF=                    0 / SBIGFITSEXT Subframe x upper-left pixel in bin
YORGSUBF=                    0 / SBIGFITSEXT Subframe y upper-left pixel in bin
XBINNING=                    2 / SBIGFITSEXT Binning factor in width
YBINNING=                    2 / SBIGFITSEXT Binning factor in height
CCD-TEMP=               -20.02 / SBIGFITSEXT Temperature of the CCD
SET-TEMP=                 -20. / SBIGFITSEXT The cooler setpoint in degrees C
DATE-OBS= '2026-01-10T20:11:12.345' / SBIGFITSEXT UTC of start exp.
INSTRUME= 'SBIG STX-16803'     / SBIGFITSEXT The model Camera used.
""",
        expected=Expected(
            kind=DARK, exposure_s=120, binning=(2, 2), temperature_c=-20, camera="SBIG STX-16803",
            night=date(2026, 1, 10), settings={"subframe_origin": (0, 0)},
        ),
    ),
    Sample(
        program="CCDSoft",
        seen="a file",
        path="L2-flat-hg-360.00000000.FIT",
        cards="""
DATE-OBS= '2026-01-10T20:37:00.591'
TIME-OBS= '20:37:00.591        '
SWCREATE= 'CCDSoft Version 5.00.218'
SET-TEMP= -1.500000000000E+001
IMAGETYP= 'Light Frame         '
CCDSUBFL=                    0
CCDSUBFT=                    0
XBINNING=                    1
YBINNING=                    2
CCD-TEMP= -1.523319095486E+001
INSTRUME= 'SBIG ST-402 CCD Camera'
FILTER  = 'Clear               '
EXPTIME = +3.600000000000E+002
EXPOSURE= +3.600000000000E+002
""",
        expected=Expected(
            kind=FLAT, exposure_s=360, binning=(1, 2), filter_name="Clear", temperature_c=-15,
            camera="SBIG ST-402 CCD Camera", night=date(2026, 1, 10), settings={"subframe_origin": (0, 0)},
        ),
    ),
    Sample(
        program="AstroArt",
        path="Dark 300s.fit",
        cards="""
DATE-OBS= '2026-01-10T20:11:12'
EXPTIME =                300.0 / exposure time
XBINNING=                    1
YBINNING=                    1
CCD-TEMP=                -15.0
IMAGETYP= 'Dark    '
INSTRUME= 'ATIK 460EX'
SWCREATE= 'AstroArt 7.0'
""",
        expected=Expected(
            kind=DARK, exposure_s=300, temperature_c=-15, camera="ATIK 460EX", night=date(2026, 1, 10)
        ),
    ),
    Sample(
        program="Nebulosity",
        path="Bias_001.fit",
        cards="""
CREATOR = 'Nebulosity v4.4.4'
DATE-OBS= '2026-01-10T20:11:12'
EXPOSURE=  1.000000000000E-003 / Exposure time in sec
INSTRUME= 'QSI 600'
OFFSET  =                   10
GAIN    =                    1
CCD-TEMP= -1.500000000000E+001
BINNING =                    1 / Binning mode
""",
        expected=Expected(
            kind=BIAS, exposure_s=0.001, gain=1, offset=10, temperature_c=-15, camera="QSI 600", night=date(2026, 1, 10)
        ),
    ),
    Sample(
        program="FireCapture",
        path="darks/dark_10ms_gain200.fit",
        cards="""
DATE-OBS= '2026-01-10T20:11:12.345'
EXPTIME = '10.00ms '
GAIN    =                  200
INSTRUME= 'ZWO ASI290MM'
FILTER  = 'R       '
BINNING = '1x1     '
CCD-TEMP= '24.3C   '
PROGRAM = 'FireCapture v2.7'
""",
        expected=Expected(
            kind=DARK, exposure_s=0.01, gain=200, filter_name="R", temperature_c=24.3, camera="ZWO ASI290MM",
            night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="Seestar",
        seen="a file",
        path="Light_M 31_10.0s_IRCUT_20260110-201112.fit",
        cards="""
CREATOR = 'ZWO Seestar S50'    / Capture software
PRODUCER= 'ZWO     '           / Powered by ZWO
XORGSUBF=                    0 / Subframe X position in binned pixels
YORGSUBF=                    0 / Subframe Y position in binned pixels
CCDXBIN =                    1 / Camera X Bin
CCDYBIN =                    1 / Camera Y Bin
INSTRUME= 'Seestar S50'        / Camera model
IMAGETYP= 'Light   '           / Type of image
EXPOSURE=                   10 / Exposure time in seconds
EXPTIME =                   10 / Exposure time in seconds
CCD-TEMP=                 24.6 / Sensor temperature in C
XBINNING=                    1 / Camera X Bin
YBINNING=                    1 / Camera Y Bin
GAIN    =                   80 / Gain Value
BAYERPAT= 'GRBG    '           / Bayer pattern
FILTER  = 'IRCUT   '           / Filter used when taking image
OBJECT  = 'M 31    '
DATE-OBS= '2026-01-10T20:11:12.345' / UTC
STACKCNT=                    1
""",
        expected=Expected(
            kind=LIGHT, exposure_s=10, gain=80, filter_name="IRCUT", temperature_c=24.6, camera="Seestar S50",
            night=date(2026, 1, 10), bayer="GRBG",
        ),
    ),
    Sample(
        program="DWARF",
        seen="a file",
        path="DWARF_DARK/tele_exp_15_gain_110_bin_2/raw_15s_110_0001.fits",
        cards="""
DATE-OBS= '2026-01-10T21:38:19.442' / Time start to exposure
DATE    = '2026-01-10T21:38:35.938' / Fits written to sd card
EXP     =                  15. / [s] Sub Exposure Time
GAIN    =                  110 / Sub Gain
BINNING = '2*2     '           / n*n pixels add together
RA      =                   0. / [h] Observe object RA coordinate (J2000)
OBJECT  = '        '           / Observe object
BAYERPAT= 'GBRG    '           / Bayer pattern
TELESCOP= 'DWARFII '           / DWARF II telescope
INSTRUME= 'DWARFII '           / DWARF II instrument
ORIGIN  = 'DWARFLAB'           / DWARF II's creator
""",
        expected=Expected(
            kind=DARK, exposure_s=15, gain=110, binning=(2, 2), camera="DWARFII", night=date(2026, 1, 10), bayer="GBRG"
        ),
    ),
    Sample(
        program="DWARF (calibration frames)",
        seen="reports",
        path="CALI_FRAME/bias/cam_0/bias_gain_2_bin_1.fits",
        cards="""
TELESCOP= 'DWARF   '
INSTRUME= 'DWARF II'
BAYERPAT= 'RGGB    '
""",
        expected=Expected(kind=BIAS, exposure_s=None, gain=2, camera="DWARF II", bayer="RGGB"),
    ),
    Sample(
        program="Orion Camera Studio",
        seen="reports",
        path="x0.fit",
        cards="""
IMAGTYP = 'Bias Frame'
EXPTIME =                0.001
INSTRUME= 'Orion G3 Mono'
DATE-OBS= '2026-01-10 T10:25:10'
SET-TEMP=                 1.96
CCD-TEMP=                  2.0
GAIN    =          .246000007
""",
        expected=Expected(
            kind=BIAS, exposure_s=0.001, gain=0.246, temperature_c=1.96, camera="Orion G3 Mono", night=date(2026, 1, 9)
        ),
    ),
    Sample(
        program="Andor Solis",
        path="bias/frame_001.fits",
        cards="""
HEAD    = 'DU934P_BV'          / Head model
ACQMODE = 'Single Scan'        / Acquisition mode
EXPOSURE=                 1E-05 / Total Exposure Time
TEMP    =              -70.000 / Temperature
DATE    = '2026-01-10T20:11:12' / Date
HBIN    =                    1 / Horizontal Binning
VBIN    =                    1 / Vertical Binning
READMODE= 'Image   '           / Readout mode
""",
        expected=Expected(
            kind=BIAS, exposure_s=1e-5, temperature_c=-70, camera="DU934P_BV", night=date(2026, 1, 10),
            settings={"readout_mode": "Image"},
        ),
    ),
    Sample(
        program="LCO (raw)",
        seen="reports",
        path="cpt1m010-fa16-20260110-0001-f00.fits.fz",
        cards="""
DATE-OBS= '2026-01-10T17:10:12.345' / [UTC] Date and start time of the observation
OBSTYPE = 'SKYFLAT '           / Observation type
EXPTIME =               12.345 / [s] Exposure length
FILTER  = 'rp      '           / Filter used
FILTER1 = 'air     '           / The first filter wheel filter type
FILTER2 = 'rp      '           / The second filter wheel filter type
FILTER3 = 'air     '           / The third filter wheel filter type
INSTRUME= 'fa16    '           / Instrument used
CCDSUM  = '2 2     '           / CCD binning factors (x,y)
CCDATEMP=               -99.98 / [deg C (Celsius)] CCD temperature
CCDSTEMP=               -100.0 / [deg C (Celsius)] CCD required temperature
GAIN    =                  1.0 / [electrons/count] Pixel gain
LONGITUD=              20.8101 / [deg] East
LATITUDE=             -32.3806 / [deg]
""",
        expected=Expected(
            kind=FLAT, exposure_s=12.345, gain=1, binning=(2, 2), filter_name="rp", temperature_c=-100, camera="fa16",
            night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="ESO (FORS2)",
        seen="source",
        path="FORS2.2026-01-11T10.25.10.fits",
        cards="""
INSTRUME= 'FORS2   '           / Instrument used
OBJECT  = 'FLAT,SKY'           / Original target
EXPTIME =               3.2000 / Integration time
DATE-OBS= '2026-01-10T23:25:10.123' / Observing date
HIERARCH ESO DPR CATG = 'CALIB' / Observation category
HIERARCH ESO DPR TYPE = 'FLAT,SKY' / Observation type
HIERARCH ESO DPR TECH = 'IMAGE' / Observation technique
HIERARCH ESO DET CHIP1 ID = 'CCID20-14-5-3' / Detector chip identification
HIERARCH ESO DET WIN1 BINX = 2 / Binning factor along X
HIERARCH ESO DET WIN1 BINY = 2 / Binning factor along Y
HIERARCH ESO DET WIN1 STRX = 1 / Lower left pixel in X
HIERARCH ESO DET WIN1 STRY = 1 / Lower left pixel in Y
HIERARCH ESO DET READ CLOCK = '200Kps/2ports/high_gain' / Readout clock pattern used
HIERARCH ESO INS FILT1 NAME = 'R_SPECIAL' / Filter name
HIERARCH ESO TEL GEOLON = -70.4045 / Telescope longitude
HIERARCH ESO TEL GEOLAT = -24.6270 / Telescope latitude
""",
        expected=Expected(
            kind=FLAT, exposure_s=3.2, binning=(2, 2), filter_name="R_SPECIAL", camera="FORS2", night=date(2026, 1, 10),
            settings={"readout_mode": "200Kps/2ports/high_gain", "subframe_origin": (1, 1)},
        ),
    ),
    Sample(
        program="Gemini (GMOS)",
        path="N20260110S0123.fits",
        cards="""
INSTRUME= 'GMOS-N  '           / Instrument used to acquire data
OBJECT  = 'Twilight'           / Target Name
OBSTYPE = 'OBJECT  '           / Type of observation
OBSCLASS= 'dayCal  '
EXPTIME =                  4.0 / Exposure time
FILTER1 = 'open1-6 '
FILTER2 = 'r_G0303 '
DATE-OBS= '2026-01-11'         / Date of observation
TIME-OBS= '04:25:10.5'         / UT of observation
CCDSUM  = '2 2     '
""",
        expected=Expected(
            kind=FLAT, exposure_s=4, binning=(2, 2), filter_name="r_G0303", camera="GMOS-N", night=date(2026, 1, 10)
        ),
    ),
    Sample(
        program="Keck (LRIS, KOA)",
        path="LR.20260110.12345.fits",
        cards="""
INSTRUME= 'LRISBLUE'
OBJECT  = 'unknown '
KOAIMTYP= 'flatlamp'           / Image type
TTIME   =                    5
EXPTIME =                  5.0
BINNING = '1,2     '
BLUFILT = 'g       '
DATE-OBS= '2026-01-10'
UTC     = '20:11:12.34'
TEMPDET =              -110.25
""",
        expected=Expected(
            kind=FLAT, exposure_s=5, binning=(1, 2), filter_name="g", temperature_c=-110.25, camera="LRISBLUE",
            night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="Keck (NIRC2)",
        path="n0123.fits",
        cards="""
INSTRUME= 'NIRC2   '
OBJECT  = 'dark    '
IMAGETYP= 'dark    '
ITIME   =                  2.0 / seconds per coadd
COADDS  =                   10
FILTER  = 'Kp + clear'
DATE-OBS= '2026-01-10'
UTC     = '20:11:12.34'
""",
        expected=Expected(
            kind=DARK, exposure_s=2, filter_name="Kp + clear", camera="NIRC2", night=date(2026, 1, 10),
            settings={"coadds": 10},
        ),
    ),
    Sample(
        program="Lick (Nickel)",
        seen="reports",
        path="d123.fits",
        cards="""
INSTRUME= 'Nickel Direct Camera'
OBSTYPE = 'OBJECT  '           / IMAGE TYPE
OBJECT  = 'dome flat V'
EXPTIME =                   15
DATE-OBS= '2026-01-11T02:11:12.34'
FILTNAM = 'V       '
CBIN    =                    2
RBIN    =                    2
COVER   =                   32
TEMPDET =               -108.3
""",
        expected=Expected(
            kind=FLAT, exposure_s=15, binning=(2, 2), filter_name="V", temperature_c=-108.3,
            camera="Nickel Direct Camera", night=date(2026, 1, 10),
        ),
    ),
    Sample(
        program="Lick (Nickel bias)",
        seen="reports",
        path="d124.fits",
        cards="""
INSTRUME= 'Nickel Direct Camera'
OBSTYPE = 'DARK    '           / IMAGE TYPE
OBJECT  = 'bias    '
EXPTIME =                    0
DATE-OBS= '2026-01-11T02:11:12.34'
""",
        expected=Expected(kind=BIAS, exposure_s=0, camera="Nickel Direct Camera", night=date(2026, 1, 10)),
    ),
    Sample(
        program="Subaru (Suprime-Cam)",
        seen="source",
        path="SUPA01234560.fits",
        cards="""
INSTRUME= 'Suprime-Cam'        / Name of instrument
DATA-TYP= 'DOMEFLAT'           / Type / Characteristics of this data
OBJECT  = 'DOMEFLAT'
EXPTIME =                 12.0 / Total integration time of the frame (sec)
FILTER01= 'W-C-RC  '
BIN-FCT1=                    1 / Binning factor of X axis
BIN-FCT2=                    1 / Binning factor of Y axis
DATE-OBS= '2026-01-10'         / Observation start date
UT-STR  = '20:11:12.345'       / UTC at exposure start time
DET-TMP =               168.15 / [K] Detector temperature
PRD-MIN1=                    1
PRD-MIN2=                    1
""",
        expected=Expected(
            kind=FLAT, exposure_s=12, filter_name="W-C-RC", temperature_c=-105, camera="Suprime-Cam",
            night=date(2026, 1, 10), settings={"subframe_origin": (1, 1)},
        ),
    ),
    Sample(
        program="NOT (ALFOSC)",
        seen="source",
        path="ALAb100123.fits",
        cards="""
INSTRUME= 'ALFOSC_FASU'
IMAGETYP= 'FLAT,SKY'
OBJECT  = 'Sky flat'
EXPTIME =                  1.5
DATE-OBS= '2026-01-10T18:11:12.3'
ALFLTNM = 'Open    '
FAFLTNM = 'V_Bes 530_80'
FBFLTNM = 'Open    '
DETXBIN =                    1
DETYBIN =                    1
""",
        expected=Expected(
            kind=FLAT, exposure_s=1.5, filter_name="V_Bes 530_80", camera="ALFOSC_FASU", night=date(2026, 1, 10)
        ),
    ),
    Sample(
        program="ING (WFC)",
        path="r1234567.fit",
        cards="""
INSTRUME= 'WFC     '           / Instrument
OBSTYPE = 'FLAT    '           / Type of observation
EXPTIME =                  2.0
WFFBAND = 'r       '           / Waveband of filter
CCDXBIN =                    1
CCDYBIN =                    1
DATE-OBS= '2026-01-10'
UTSTART = '19:11:12.3'
CCDTEMP =                153.2 / [K] Temperature of cryostat
""",
        expected=Expected(
            kind=FLAT, exposure_s=2, filter_name="r", temperature_c=-119.95, camera="WFC", night=date(2026, 1, 10)
        ),
    ),
    Sample(
        program="NOIRLab (KPNO, IRAF)",
        path="n1023.fits",
        cards="""
OBSTYPE = 'zero    '           / Observation type
IMAGETYP= 'zero    '
EXPTIME =                    0 / Exposure time (sec)
DATE-OBS= '2026-01-10T23:11:12.3'
CCDSUM  = '1 1     '
INSTRUME= 'ccd     '
FILTERS = '4 0     '
""",
        expected=Expected(kind=BIAS, exposure_s=0, filter_name="4 0", camera="ccd", night=date(2026, 1, 10)),
    ),
    Sample(
        program="ARCSAT",
        seen="a file",
        path="Dark_BIN1_20260110_032243.fits",
        cards="""
DATE-OBS= '2026-01-10T03:22:43.329' / [ISO 8601] UTC date/time of exposure start
EXPTIME =   6.00000000000E+001 / [sec] Duration of exposure
EXPOSURE=   6.00000000000E+001 / [sec] Duration of exposure
SET-TEMP=  -25.000000000000000 /CCD temperature setpoint in C
CCD-TEMP=  -25.020270000000000 /CCD temperature at start of exposure in C
XBINNING=                    1 / Binning level along the X-axis
YBINNING=                    1 / Binning level along the Y-axis
IMAGETYP= 'DARK    '           /          Type of image
INSTRUME= 'dcam-spare'         / Detector instrument name
""",
        expected=Expected(
            kind=DARK, exposure_s=60, temperature_c=-25, camera="dcam-spare", night=date(2026, 1, 9)
        ),
    ),
    Sample(
        program="PypeIt's spectrographs (Magellan)",
        seen="source",
        path="ccd0123.fits",
        cards="""
INSTRUME= 'MagE    '
EXPTYPE = 'Flat    '
OBJECT  = 'Xe Flash'
EXPTIME =                 20.0
BINNING = '1x1     '
UT-DATE = '2026-01-10'
UT-TIME = '20:11:12'
""",
        expected=Expected(kind=FLAT, exposure_s=20, camera="MagE", night=date(2026, 1, 10)),
    ),
    Sample(
        program="AstroImageJ (master)",
        path="mflat_V.fits",
        cards="""
IMAGETYP= 'Flat Field'
EXPTIME =                  5.0
FILTER  = 'V       '
DATE-OBS= '2026-01-10T20:11:12'
""",
        expected=Expected(kind=FLAT, exposure_s=5, filter_name="V", night=date(2026, 1, 10), is_master=True),
    ),
    Sample(
        program="Astro Pixel Processor (master)",
        seen="a file",
        path="MF-IG_120.0-E1.28s-ZWO_ASI294MC_Pro-4144x2822-HaOIII.fits",
        cards="""
DATE    = '2026-01-11T11:57:12' / creation date of MasterFlat
SOFTWARE= 'Astro Pixel Processor by Aries Productions' / software
VERSION = '2.0.0-beta28'       / Astro Pixel Processor version
CALFRAME= 'MasterFlat'         / master flat frame
INSTRUME= 'ZWO ASI294MC Pro'   / instrument name
CFAIMAGE= 'RGGB    '           / Color Filter Array pattern
ROWORDER= 'TOP-DOWN'           / Order of pixel rows stored in the image array
EXPTIME =                 1.28 / exposure time (s)
GAIN    =                120.0 / gain or ISO depending on instrument
INT-METH= 'median  '           / integration method
AD-PED  =                 0.E0 / adaptive pedestal from data calibration
FILTNUM =                    1 / data combined from 1 filter
FILT-1  = 'HaOIII  '           / filter used
NUMFRAME=                   30 / # number of frames used in MasterFlat creation
""",
        expected=Expected(
            kind=FLAT, exposure_s=1.28, gain=120, filter_name="HaOIII", camera="ZWO ASI294MC Pro", bayer="RGGB",
            is_master=True, settings={"row_order": "TOP-DOWN"},
        ),
    ),
    Sample(
        program="Astro Pixel Processor (stack)",
        seen="a file",
        path="M31-session_1-mod-lpc-cbg-St.fits",
        cards="""
DATE    = '2026-01-11T11:28:45' / creation date of Integration
SOFTWARE= 'Astro Pixel Processor by Aries Productions' / software
INTEGRAT= 'Integration'        / integration of light frames
CFAIMAGE= 'no      '           / Color Filter Array pattern
GAIN    =                  0.0 / gain or ISO depending on instrument
EXPTIME =                900.0 / exposure time (s)
""",
        expected=Expected(kind=None, exposure_s=900, gain=0, is_master=True),
    ),
    Sample(
        program="Siril (master)",
        path="dark_stacked.fit",
        cards="""
IMAGETYP= 'DARK    '
EXPTIME =                300.0
STACKCNT=                   20 / Stack frames
LIVETIME=               6000.0
PROGRAM = 'Siril 1.2.1'
ROWORDER= 'TOP-DOWN'
""",
        expected=Expected(kind=DARK, exposure_s=300, is_master=True, settings={"row_order": "TOP-DOWN"}),
    ),
    Sample(
        program="PixInsight (master)",
        path="masterDark_BIN-1_6248x4176_EXPOSURE-300.00s.fits",
        cards="""
IMAGETYP= 'Master Dark'
EXPTIME =                300.0
XBINNING=                    1
YBINNING=                    1
HISTORY Integration with ImageIntegration process
HISTORY ImageIntegration.numberOfImages: 20
""",
        expected=Expected(kind=DARK, exposure_s=300, is_master=True),
    ),
)  # fmt: skip
