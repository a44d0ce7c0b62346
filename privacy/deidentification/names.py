"""Common given and family names, and words that are no name: what the scan knows.

Written for this scan, and small on purpose: names that are everyday or clinical words too (Rose,
Grant, May) are left out, for a single such word says nothing. The scan's shapes find the names that
are not here.
"""

from typing import Final

_GIVEN = """
aaron abigail adam adrian agnes agnieszka ahmed aisha alan albert alejandro alexander alexandra
alfred ali alice alicia amanda amina amy ana andrea andreas andrew angela anita anja ann anna anne
anthony antonio arthur ashley aylin barbara beata beatrice benjamin bernadette bernhard bogdan
brandon brenda brian bruno camille carla carlos carmen carol caroline catherine charles charlotte
chiara chloe christian christina christine christopher claire clara claudia craig cristina cynthia
daniel daniela david deborah denise dennis diana diego dieter dimitri dominik donald donna dorothy
douglas dylan edith eduardo edward eleanor elena elizabeth ella emily emma eric erika ernst esther
eva evelyn fabian fatima felix ferenc fernando florian frances francesco francisco frank franziska
friedrich gabor gabriel gabriela gary georg george gerald gerhard giovanni gisela giulia gloria
gregory guillermo gunther hannah hans harold harry hassan heather heinrich helen helga henry
hildegard hiroshi hugo ian ibrahim ingrid irene irina isabel isabella istvan ivan jack jacob
jacqueline james jana jane janet janos jason javier jean jeffrey jennifer jeremy jerry jessica
joan joao johann johanna john jonas jonathan jorge jose joseph joshua juan judith julia julian
julie jurgen justin karen karin karl katarzyna katharina katherine kathleen kenji kenneth kevin
klaus krzysztof kurt larry laszlo laura lauren lena leon leonie linda lisa louis lucas lucia lucy
luigi luis lukas magdalena malgorzata manuel marco marek margaret maria marie marina mario marta
martin mary mateo matthew matthias maurice maximilian megan mehmet melissa michael michaela
michelle miguel mikhail mohamed mohammed monica monika nancy natalia natalie nathan nicholas
nicole nikolai nina noah olga oliver olivia oscar pablo pamela patricia patrick paul paula pawel
pedro peter petra philip pierre piotr rachel rafael raymond rebecca regina reinhard renate ricardo
richard robert roberto roger roland ronald rosa ruth ryan sabine samantha samuel sandra sara sarah
scott sean sebastian sergio sharon silvia simon sofia sonja sophia sophie stefan stefania
stephanie stephen steven susan susanne svetlana tamas teresa theodore theresa thomas timothy
tobias tomasz ursula valentina vanessa veronica victoria viktor vincent virginia vladimir walter
wayne werner wilhelm william wolfgang yasmin yuki yusuf yvonne zoltan zsofia zsuzsanna
"""

_FAMILY = """
abdullah adams aguilar ahmad alexandrov allen almeida alvarez anderson andersson bailey baumann
becker bennett bergmann bernard bianchi bonnet brunner bryant campbell carvalho castillo castro
chavez chen clark collins colombo contreras cooper costa cruz davis delgado diaz dietrich dubois
dupont edwards esposito evans farkas fernandes fernandez ferrari fischer fitzgerald flores foster
fournier freeman frey friedman fuchs garcia garnier gomes gomez gonzales gonzalez graf greene
gruber guerrero gupta gutierrez hamilton hansen harris harrison hartmann henderson hernandez
herrera hoffman hoffmann horvath howard huber hughes ibrahim ivanov ivanova jackson jankowski
jansen jenkins jensen jimenez johansson johnson jones kaiser kaminski kaufmann keller kelly
kennedy khan kim kovacs kovalenko kowalski krause kruger kumar lambert larsen laurent lefebvre
lehmann lewis lopez mahmoud maier martinez martins mayer mcdonald medina mehta mendoza meyer
miller mitchell molnar moore morales moreau moreno morgan morris mueller muller murphy nagy
nakamura nelson nemeth neumann nguyen novak nowak ochoa olsen ortiz papadopoulos parker patel
pereira perez peters petersen peterson petrov phillips popescu powell ramirez ramos reyes reynolds
ricci richards richardson richter rivera roberts robinson rodrigues rodriguez rogers romano romero
rossi rousseau ruiz russo sanchez sanders santos sato schmid schmidt schmitt schneider scholz
schroeder schulz schwarz silva simmons singh smith sousa stewart sullivan suzuki svensson szabo
takacs takahashi tanaka taylor thompson torres toth vargas vasquez vogel volkov wagner walker wang
washington watanabe watson weber wilson winkler wisniewski wojcik wright yamamoto yilmaz zhang
zimmermann
"""

_NO_NAME = """
abnormal above absent acute admission adult after age albumin alcohol alive and angina aortic area
arterial artery at atrial atypical average before below benign bilirubin birth black blood blue
body both calcium cancer cardiac case cell cells center central chest cholesterol chronic class
clinic code common compactness concave concavity control coronary count country creatinine data
date day dead density department depression diagnosis diastolic dimension discharge disease down
education elective elevated emergency error ethnicity ever exercise false family fasting female
first fixed flat former fractal gender general glucose grade green group haemoglobin heart heavy
height hemoglobin high history hospital hypertrophy id income increased index infection inpatient
insurance intensive invasive label left level light low lower main major male malignant marital
mass max maximum mean medical medium mild min minimum minor missing moderate month murmur name
negative never new no none normal not number of old on other outcome outpatient oxygen pain
patient perimeter platelet platelets points positive possible post potassium pre pressure primary
private probable protein public pulse race radius rate red region regular rest resting result
reversible right score second secondary segment serum severe sex sinus site size slope smoker
smoking smoothness sodium source stage standard state status stenosis stroke study sugar surgery
symmetry syndrome systolic test texture the third time tissue total treatment true type typical
unit unknown unstable up upper urea value valve venous ventricular very vessel vessels visit
volume waist wave weight white with without worst year yes
"""

GIVEN: Final = frozenset(_GIVEN.split())
FAMILY: Final = frozenset(_FAMILY.split())
NO_NAME: Final = frozenset(_NO_NAME.split())
